"""What a windowed feature view can compute: one line an aggregate, the same meaning in every engine.

Exactness. Whatever is added up is added in whole units: a value becomes `floor(value / resolution + 0.5)`, an int64,
and is turned back once at the end. Sums are then independent of order and engine, and a window is a difference of
running totals without any rounding. Whole-number columns keep resolution 1; a fractional one is declared with the unit
that matters (`mean("temp_f", resolution=0.01)`). Minimum, maximum and last keep the value itself, as float64.

No value. Null, NaN and infinity are no value: such an event counts in `count`, and in nothing of that column.
"""

from dataclasses import dataclass
from typing import Any, Literal

from flightdeck.core.errors import ConfigError, nearest

Kind = Literal["count", "sum", "mean", "share", "std", "min", "max", "last", "since_last", "distinct"]
KINDS: tuple[Kind, ...] = ("count", "sum", "mean", "share", "std", "min", "max", "last", "since_last", "distinct")
OPERATORS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
MAX_UNITS = 2**33  # of one value that is added up, and
MAX_EVENTS = 2**30  # of a window in which values are added up: then no total of a window reaches 2**63
MAX_UNITS_SQUARED = 2**31  # of one value of a standard deviation
MAX_DISTINCT = 100_000


@dataclass(frozen=True)
class Aggregate:
    """One aggregate over a window; made by the functions of this module.

    Parameters
    ----------
    kind
        What is computed.
    column
        Column of the stream; empty for `count` and `since_last`.
    resolution
        Unit in which values are added up (`sum`, `mean`, `std`).
    operator, operand
        Condition of a `share`: one of ==, !=, <, <=, >, >= and a number or text.
    at_most
        Bound of `distinct`.

    Raises
    ------
    ConfigError
        If the kind or operator is unknown, a column is missing, or a number is out of range.
    """

    kind: Kind
    column: str = ""
    resolution: float = 1.0
    operator: str = ""
    operand: float | str = 0
    at_most: int = 0

    def __post_init__(self) -> None:
        wrong = []
        if self.kind not in KINDS:
            wrong.append(f"there is no aggregate {self.kind!r}{nearest(str(self.kind), list(KINDS))}")
        if bool(self.column) == (self.kind in ("count", "since_last")):
            wrong.append(f"column is {self.column!r}")
        if not 0 < self.resolution < float("inf"):
            wrong.append(f"resolution is {self.resolution}; it is a positive number")
        if (self.kind == "share") != (self.operator in OPERATORS):
            wrong.append(f"operator is {self.operator!r}; one of {', '.join(OPERATORS)} belongs to a share")
        if isinstance(self.operand, str) and self.operator not in ("==", "!=", ""):
            wrong.append(f"text can be compared by == and != only, not by {self.operator}")
        if isinstance(self.operand, float) and not abs(self.operand) < float("inf"):
            wrong.append(f"operand is {self.operand}")
        if (self.kind == "distinct") != (1 <= self.at_most <= MAX_DISTINCT):
            wrong.append(f"at_most is {self.at_most}; a distinct count is bounded by 1 to {MAX_DISTINCT:,}")
        if wrong:
            raise ConfigError(
                f"declaring aggregate {self.kind}({self.column}): {'; '.join(wrong)}",
                next_step="use the functions of flightdeck.features.aggregates",
            )

    @property
    def label(self) -> str:
        """Name of the feature without its window."""
        if self.kind != "share":
            return f"{self.kind}_{self.column}" if self.column else self.kind
        if (self.operator, self.operand) == ("!=", 0):
            return f"share_{self.column}"
        operand = "".join(letter if letter.isalnum() else "_" for letter in str(self.operand).replace("-", "minus_"))
        return f"share_{self.column}_{OPERATORS[self.operator]}_{operand}"

    def as_json(self) -> dict[str, Any]:
        """Return what was given, defaults left out."""
        default = {"column": "", "resolution": 1.0, "operator": "", "operand": 0, "at_most": 0}
        kept = {name: getattr(self, name) for name, value in default.items() if getattr(self, name) != value}
        return {"kind": self.kind, **kept}


def count() -> Aggregate:
    """Return the number of events of the window."""
    return Aggregate("count")


def total(column: str, *, resolution: float = 1.0) -> Aggregate:
    """Return the sum of a column; 0 for an empty window. The feature is called `sum_<column>`."""
    return Aggregate("sum", column, resolution)


def mean(column: str, *, resolution: float = 1.0) -> Aggregate:
    """Return the mean of a column's values; NaN where there are none."""
    return Aggregate("mean", column, resolution)


def std(column: str, *, resolution: float = 1.0) -> Aggregate:
    """Return the population standard deviation of a column's values; NaN where there are none."""
    return Aggregate("std", column, resolution)


def share(column: str, operator: str = "!=", operand: float | str = 0) -> Aggregate:
    """Return the share of values for which a condition holds; NaN where there are no values.

    Examples
    --------
    >>> share("dep_delay_min", ">=", 15).label
    'share_dep_delay_min_ge_15'
    """
    return Aggregate("share", column, operator=operator, operand=operand)


def lowest(column: str) -> Aggregate:
    """Return the least value; NaN where there are none. The feature is called `min_<column>`."""
    return Aggregate("min", column)


def highest(column: str) -> Aggregate:
    """Return the greatest value; NaN where there are none. The feature is called `max_<column>`."""
    return Aggregate("max", column)


def last(column: str) -> Aggregate:
    """Return the value of the window's last event that has one (ties by event id); NaN where there is none."""
    return Aggregate("last", column)


def since_last() -> Aggregate:
    """Return the seconds since the window's last event; NaN for an empty window."""
    return Aggregate("since_last")


def distinct(column: str, *, at_most: int = 1000) -> Aggregate:
    """Return the number of different values, exact up to `at_most`; where there are more, it is `at_most`.

    Notes
    -----
    The online engine knows values by a 64-bit hash: two values share one with a probability below `at_most`**2 / 2**65,
    3e-14 for 1,000.
    """
    return Aggregate("distinct", column, at_most=at_most)
