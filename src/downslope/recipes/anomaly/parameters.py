"""Parameters by name, in scikit-learn's manner and without scikit-learn."""

from __future__ import annotations

import inspect
from typing import Any, Self

from downslope import UsageError


class Parameters:
    """What `sklearn.base.clone` and a grid search ask of an estimator.

    A subclass takes keyword arguments and stores each under its name.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """The estimator with other parameters.

        Raises:
            UsageError: a name that is no parameter.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise UsageError(f"{name} is no parameter; there are {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name].default and value != defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(given)})"
