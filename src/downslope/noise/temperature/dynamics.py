"""Kinds of momentum and ways of sampling, as the instruments take them.

Three kinds of momentum, never guessed, all with `theta <- theta - step`:

- "heavy_ball": v <- beta v + eta g;               step = v (optax.sgd, PyTorch's SGD)
- "ema":        v <- beta v + (1 - beta) g;        step = eta v (Adam's first moment)
- "nesterov":   v <- beta v + eta g(theta - beta v); step = v

The EMA kind is heavy ball at the rate eta (1 - beta).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from downslope.arguments import number, one_of, whole
from downslope.errors import UsageError

MomentumKind = Literal["heavy_ball", "ema", "nesterov"]
"""Momentum: v <- beta v + eta g, Adam's average, or Nesterov's."""
Sampling = Literal["reshuffled", "replacement", "streaming"]
"""Draws of batches: epochs in random order, each row anew, or from an endless source."""
PRECONDITIONED = "not defined by this formula for a preconditioned optimizer"


def heavy_ball_rate(
    learning_rate: float, momentum: float, momentum_kind: MomentumKind | None
) -> float:
    """Learning rate of the heavy ball that makes the same steps: eta (1 - beta) for EMA, else eta.

    Args:
        learning_rate: eta > 0, in parameter^2 / loss.
        momentum: beta, 0 or more and below 1.
        momentum_kind: needed unless momentum is 0.

    Raises:
        UsageError: a value outside its range, or momentum without its kind.
    """
    number("learning_rate", learning_rate, above=0)
    kind = checked_kind(momentum, momentum_kind)
    return float(learning_rate) * (1 - momentum if kind == "ema" else 1.0)


def effective_rate(
    learning_rate: float, momentum: float, momentum_kind: MomentumKind | None
) -> float:
    """Learning rate summed over all later steps: eta / (1 - beta), or eta for EMA."""
    return heavy_ball_rate(learning_rate, momentum, momentum_kind) / (1 - momentum)


def checked_kind(momentum: float, momentum_kind: MomentumKind | None) -> str:
    """The kind of momentum, checked; plain SGD is heavy ball with momentum 0."""
    number("momentum", momentum, least=0, below=1)
    if momentum_kind is None:
        if momentum > 0:
            raise UsageError(
                f"momentum_kind must be one of {', '.join(get_args(MomentumKind))} where momentum "
                f"is not 0; got momentum {momentum} and no kind"
            )
        return "heavy_ball"
    return one_of("momentum_kind", momentum_kind, get_args(MomentumKind))


def population_factor(batch_size: int, num_rows: int | None, sampling: Sampling) -> float:
    """Factor phi on the noise of a mini-batch: (N - B)/(N - 1) without replacement, else 1.

    Args:
        batch_size: B examples an update.
        num_rows: N rows of the data set; None where it is unknown or endless.
        sampling: "reshuffled" epochs draw without replacement; "replacement"; "streaming".

    Raises:
        UsageError: a batch larger than the data set, or reshuffling without its size.
    """
    whole("batch_size", batch_size)
    one_of("sampling", sampling, get_args(Sampling))
    if sampling != "reshuffled":
        return 1.0
    if num_rows is None:
        raise UsageError("num_rows must be given where sampling is 'reshuffled'; got None")
    whole("num_rows", num_rows)
    if batch_size > num_rows:
        raise UsageError(f"batch_size must be at most num_rows ({num_rows}); got {batch_size}")
    return (num_rows - batch_size) / (num_rows - 1) if num_rows > 1 else 0.0


def unit_draws(batch_size: int, num_rows: int | None, interacts: bool) -> dict[str, Any]:
    """Draws of an update's units as the instruments take them: examples, or whole batches."""
    sampling = "streaming" if num_rows is None else "reshuffled"
    if interacts:
        batch_size, num_rows = 1, num_rows and max(1, num_rows // batch_size)
    return {"batch_size": batch_size, "num_rows": num_rows, "sampling": sampling}
