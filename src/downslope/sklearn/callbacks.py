"""scikit-learn's callbacks, where the installed version has them (1.9 and later).

`set_callbacks` is scikit-learn's own. A fit is a task, and every record that tells of an epoch or
an evaluation is a task inside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks  # pyright: ignore
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's; there are no callbacks to support."""

    def with_callbacks(method: Any) -> Any:
        """The method as it is."""
        return method


TOLD = ("progress", "evaluated")  # records that are told as tasks

__all__ = ["CallbackSupportMixin", "reader_of", "told_fit", "with_callbacks"]


@contextlib.contextmanager
def told_fit(estimator: Any, x: Any, y: Any, fitted: Callable[[], dict[str, Any]]) -> Iterator[Any]:
    """A fit as a task of the callbacks; gives its context, or None where there are none.

    Args:
        fitted: gives the attributes of a fitted estimator, at the end.
    """
    begin = getattr(estimator, "_init_callback_context", None)
    if begin is None:
        yield None
        return
    context = begin(max_subtasks=None)
    context.call_on_fit_task_begin(estimator=estimator, X=x, y=y)
    yield context
    context.call_on_fit_task_end(estimator=estimator, X=x, y=y, reconstruction_attributes=fitted)


def reader_of(estimator: Any, context: Any) -> tuple[Callable[[dict[str, Any]], None], ...]:
    """A reader of the journal that calls the callbacks, where there are any."""
    if context is None or not getattr(estimator, "_skl_callbacks", None):
        return ()

    def read(record: dict[str, Any]) -> None:
        if record["event"] not in TOLD:
            return
        task = context.subcontext(task_name=record["event"])
        task.call_on_fit_task_begin(estimator=estimator, metadata=record)
        task.call_on_fit_task_end(estimator=estimator, metadata=record)

    return (read,)
