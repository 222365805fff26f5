"""scikit-learn's callbacks, where the installed version has them (1.9 and later).

`set_callbacks` is scikit-learn's own. A fit is a task; each record of progress or of an evaluation
is a task inside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks  # pyright: ignore
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No callbacks to support."""

    def with_callbacks(method: Any) -> Any:
        """The method, unchanged."""
        return method


TASKS = ("progress", "evaluated")  # events that are tasks of their own

__all__ = ["CallbackSupportMixin", "fit_task", "reader_of", "with_callbacks"]


@contextlib.contextmanager
def fit_task(estimator: Any, x: Any, y: Any, fitted: Callable[[], dict[str, Any]]) -> Iterator[Any]:
    """A fit as a task of the callbacks; yields its context, or None without callbacks."""
    begin = getattr(estimator, "_init_callback_context", None)
    if begin is None:
        yield None
        return
    context = begin(max_subtasks=None)
    context.call_on_fit_task_begin(estimator=estimator, X=x, y=y)
    yield context
    context.call_on_fit_task_end(estimator=estimator, X=x, y=y, reconstruction_attributes=fitted)


def reader_of(estimator: Any, context: Any) -> tuple[Callable[[dict[str, Any]], None], ...]:
    """Readers of the journal that call the callbacks, if there are any."""
    if context is None or not getattr(estimator, "_skl_callbacks", None):
        return ()

    def read(record: dict[str, Any]) -> None:
        if record["event"] not in TASKS:
            return
        task = context.subcontext(task_name=record["event"])
        task.call_on_fit_task_begin(estimator=estimator, metadata=record)
        task.call_on_fit_task_end(estimator=estimator, metadata=record)

    return (read,)
