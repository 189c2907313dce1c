"""Column functions: a request-time feature written once, for training, batch scoring and the server.

A column function takes arrays of shape `(n_rows,)` and returns a tuple of arrays of the same shape. It uses operations
of the array API standard only (https://data-apis.org/array-api/), reads no clock and changes no input; the conformance
laws in `tests/conformance` run on every one that is registered here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Output:
    """What a column function promises about one of its outputs.

    Parameters
    ----------
    name
        Column name of the feature.
    unit
        Unit or meaning of the values, for people.
    low, high
        Closed range that every finite value lies in.
    """

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class ColumnFunction:
    """A registered column function with its inputs (its parameter names) and its outputs."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__


_registered: dict[str, ColumnFunction] = {}


def column_function(*outputs: Output) -> Callable[[Function], Function]:
    """Declare a function as a column function; calling it stays exactly as cheap as before.

    Raises
    ------
    ValueError
        If no output is declared or two functions declare the same output.
    """

    def register(function: Function) -> Function:
        if not outputs:
            raise ValueError(f"{function.__name__}: a column function declares at least one output")
        declared = ColumnFunction(function, tuple(signature(function).parameters), outputs)
        key = f"{function.__module__}.{function.__qualname__}"
        for other_key, other in _registered.items():
            shared = {o.name for o in other.outputs} & {o.name for o in outputs}
            if shared and other_key != key:
                raise ValueError(f"{key}: {sorted(shared)} is already an output of {other_key}")
        _registered[key] = declared
        return function

    return register


def column_functions(module: str) -> tuple[ColumnFunction, ...]:
    """Return the column functions that a module declares, in the order of their declaration."""
    return tuple(declared for key, declared in _registered.items() if key.rpartition(".")[0] == module)
