"""The rule baseline: a table of rates with a description of its keys. No model runtime, no code of the use case.

`rules.json` says how the key of a row is made from request columns: plain columns, and integer arithmetic for what is
counted, such as a local hour. Training fills the table by the same description that the server looks up with.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Columns = Mapping[str, npt.NDArray[Any]]


class ColumnKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="column"):
    """The value of a request column as it is."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the request columns that it reads."""
        return (self.column,)

    def values(self, columns: Columns) -> list[Any]:
        """Return the key of each row."""
        values: list[Any] = columns[self.column].tolist()
        return values


class IntegerKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="integer"):
    """`(sum of weight * column + constant) mod modulus // divisor`, rounded down, over int64 columns.

    Parameters
    ----------
    weights
        Weight by column.
    modulus, divisor
        At least 1.
    constant
        Added before the modulus.

    Examples
    --------
    >>> hour = IntegerKey({"minute": 1}, modulus=1440, divisor=60)
    >>> hour.values({"minute": np.array([0, 59, 60, -1])})
    [0, 0, 1, 23]
    """

    weights: dict[str, int]
    modulus: int
    divisor: int = 1
    constant: int = 0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not self.weights or self.modulus < 1 or self.divisor < 1:
            raise ValueError(
                f"weights {self.weights}, modulus {self.modulus}, divisor {self.divisor}: a key weighs at least one "
                "column, modulus and divisor are at least 1"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the request columns that it reads."""
        return tuple(self.weights)

    def values(self, columns: Columns) -> list[Any]:
        """Return the key of each row."""
        total = np.int64(self.constant) + sum(columns[name] * weight for name, weight in self.weights.items())
        values: list[Any] = np.asarray(total % self.modulus // self.divisor).tolist()
        return values


Key = ColumnKey | IntegerKey


class Rules(msgspec.Struct, frozen=True):
    """`rules.json`.

    Parameters
    ----------
    keys
        What a row is looked up by, in the order in which cells are named.
    rates
        Rate by cell: the keys as text, joined by `:`.
    rate
        Rate of every other cell.
    """

    keys: tuple[Key, ...]
    rates: dict[str, float]
    rate: float

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the request columns that the keys read."""
        return tuple(dict.fromkeys(name for key in self.keys for name in key.columns))

    def score(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the rate of each row, float64 `(n,)`.

        Parameters
        ----------
        columns
            Request columns, shape `(n,)` each.
        """
        return np.array([self.rates.get(cell, self.rate) for cell in cells(self.keys, columns)], dtype=np.float64)


def cells(keys: Sequence[Key], columns: Columns) -> Iterable[str]:
    """Return the cell of each row, such as `UA:17`."""
    return (":".join(map(str, row)) for row in zip(*(key.values(columns) for key in keys), strict=True))


def read_rules(content: bytes | Mapping[str, Any]) -> Rules:
    """Return parsed rules, from the bytes of `rules.json` or from plain values.

    Raises
    ------
    msgspec.DecodeError
        If they break their form; the place is named.
    """
    return msgspec.json.decode(content, type=Rules) if isinstance(content, bytes) else msgspec.convert(content, Rules)
