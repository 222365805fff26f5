"""Decisions with their reasons, as records that can be replayed."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ParamSpec

from downslope.errors import DataError, MismatchError, UsageError

P = ParamSpec("P")
Policy = Callable[P, "Decision | None"]

_POLICIES: dict[str, Callable[..., Decision | None]] = {}
_NOT_FINITE = "not finite"  # JSON has no infinity; the journal writes null for one

# A journal may be replayed on a machine whose logarithms differ in the last bit.
SAME = 1e-12


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Old and new value of one knob, with the reason and everything it rests on.

    Attributes:
        knob: name of the setting, such as "batch_size".
        old, new: its value before and after, plain values like the inputs.
        because: one sentence with the numbers that decided, and their units.
        policy: name of the function that decided; filled in by `policy`.
        inputs: arguments of that function by name: numbers, strings, None, and tuples or
            dictionaries of them; filled in by `policy`.
        from_start: training restarts from the first parameters.
    """

    knob: str
    old: Any
    new: Any
    because: str
    policy: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    from_start: bool = False

    def to_json(self) -> dict[str, Any]:
        """Fields for a journal; numbers that are not finite are wrapped."""
        return {f.name: _to_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Decision:
        """Decision from a record of a journal; other keys of the record are ignored.

        Raises:
            DataError: a field is missing.
        """
        names = [f.name for f in dataclasses.fields(cls) if f.name != "from_start"]
        missing = [name for name in names if name not in record]
        if missing:
            raise DataError(
                f"a decision without {missing[0]!r}", remedy="is this a journal's record?"
            )
        values = {name: _from_json(record[name]) for name in names}
        if not isinstance(values["inputs"], dict):
            raise DataError(f"inputs of a decision are no dictionary: {values['inputs']!r}")
        return cls(**values, from_start=record.get("from_start", False))

    def __str__(self) -> str:
        return f"{self.knob} {_shown(self.old)} -> {_shown(self.new)}: {self.because}"


def policy(function: Policy[P]) -> Policy[P]:
    """Make a function of plain values a policy: its decisions record its arguments.

    The function returns a `Decision` with knob, old, new and because, or None for no change.
    It is called with the values as a journal returns them (lists become tuples, NumPy's
    scalars Python's), so that the first call and a replay see the same.

    Args:
        function: without positional-only, *args or **kwargs parameters, and with a name that
            no other policy has.

    Raises:
        UsageError: on a call with a value that is not a number, string, None, or a tuple, list
            or dictionary of them.

    Example:
        >>> @policy
        ... def halve_when_rising(*, learning_rate, losses):
        ...     if losses[-1] <= losses[0]:
        ...         return None
        ...     return Decision(knob="learning_rate", old=learning_rate, new=learning_rate / 2,
        ...                     because=f"the loss rose from {losses[0]} to {losses[-1]}")
        >>> found = halve_when_rising(learning_rate=0.1, losses=[1.0, 3.0])
        >>> print(found)
        learning_rate 0.1 -> 0.05: the loss rose from 1.0 to 3.0
        >>> replay([{"event": "decided", **found.to_json()}]) == [found]
        True
    """
    signature = inspect.signature(function)
    name = getattr(function, "__name__", repr(function))
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"policy {name}: {parameter} cannot be recorded by its name")
    known = _POLICIES.get(name)
    if known is not None and known.__module__ != function.__module__:
        raise TypeError(f"policy {name} is defined in {known.__module__} already")

    @functools.wraps(function)
    def decide(*args: P.args, **kwargs: P.kwargs) -> Decision | None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()  # recorded too: a default may have changed by the replay
        inputs = {key: _plain(value, key) for key, value in bound.arguments.items()}
        found = function(**inputs)  # type: ignore[call-arg]
        if found is None:
            return None
        old, new = _plain(found.old, "old"), _plain(found.new, "new")
        return dataclasses.replace(found, policy=name, inputs=inputs, old=old, new=new)

    _POLICIES[name] = decide
    return decide


def replay(records: Iterable[Mapping[str, Any]]) -> list[Decision]:
    """Make the decisions of a journal again from the inputs they recorded.

    Args:
        records: records of the journal; those of other events are ignored.

    Raises:
        MismatchError: a policy now decides differently, gives another reason, or is unknown.
        DataError: the record of a decision lacks a field.
    """
    _import_policies()
    decisions = []
    for record in records:
        if record.get("event") != "decided":
            continue
        written = Decision.from_json(record)
        place = f"decision of {written.policy!r} at step {record.get('step', 'unknown')}"
        if written.policy not in _POLICIES:
            raise MismatchError(f"{place}: there is no policy of this name")
        try:
            again = _POLICIES[written.policy](**written.inputs)
        except TypeError as error:
            raise MismatchError(f"{place}: its inputs no longer fit ({error})") from error
        for name in ("knob", "old", "new", "because"):
            was, now = getattr(written, name), getattr(again, name, None)
            if not _is_same(was, now):
                raise MismatchError(f"{place}: {name} was {was!r} and is now {now!r}")
        decisions.append(written)
    return decisions


def _import_policies() -> None:
    """Import all modules of policies, which registers them."""
    package = importlib.import_module("downslope.choose")
    for module in pkgutil.iter_modules(package.__path__, "downslope.choose."):
        importlib.import_module(module.name)


def _plain(value: Any, name: str) -> Any:
    """Value as a journal would return it."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):  # NumPy's whole numbers count as such too
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(each, name) for each in value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(each, name) for key, each in value.items()}
    raise UsageError(f"{name} must be made of numbers, words and None; got {value!r}")


def _to_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_NOT_FINITE: str(value)}
    if isinstance(value, (list, tuple)):
        return [_to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: _to_json(each) for key, each in value.items()}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_NOT_FINITE}:
            return float(value[_NOT_FINITE])
        return {key: _from_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_from_json(each) for each in value)
    return value


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or math.isclose(a, b, rel_tol=SAME)
    return type(a) is type(b) and a == b


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
