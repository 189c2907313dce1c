"""Reading a few online states: the same answers as with arrays, number by number, without the fixed cost of arrays.

A NumPy call costs about a microsecond whatever it does, and a view takes dozens. One key's windows are a handful of
binary searches, which `bisect` does on the packed bytes themselves. For a few rows (`state_read.py`) this is the faster
way; a test holds both to the same bits.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from math import inf, nan, sqrt

from flightdeck.core.clock import SECOND_US
from flightdeck.features.aggregates import MAX_EVENTS, Aggregate
from flightdeck.features.measures import ADDED, WRAP, measures_of, require_few
from flightdeck.features.state_layout import NEVER_US, Layout, layout_of
from flightdeck.features.view import FeatureView, Latest, Windowed

_HALF, _ALL = 1 << 63, 1 << 64
_EXACT = 1 << 53  # whole numbers up to here are the same in floating point
_SUM_LIKE = ("count", "sum", "mean", "share", "std")


@dataclass(frozen=True)
class Step:
    """One aggregate: its kind and column, where its numbers lie, and what turns them into the feature.

    Parameters
    ----------
    columns
        Columns of the totals track, for what is added up.
    track
        Place of the aggregate's own track, else 0.
    """

    kind: str
    column: str
    columns: tuple[int, ...]
    track: int
    resolution: float
    at_most: int


@dataclass(frozen=True)
class Plan:
    """What reading one view takes, worked out once.

    Parameters
    ----------
    kind
        Name of the function that reads; `plain` is windowed with nothing but counts, means and shares in whole units.
    pairs
        For `plain`: columns of the totals of each step, 0 for none.
    max_events
        A key of fewer events has no window in which too many values are added up.
    """

    kind: str
    windows_us: tuple[tuple[int, int], ...]
    steps: tuple[Step, ...]
    widths: tuple[int, ...]
    is_last: tuple[bool, ...]
    empty: tuple[float, ...]
    ttl_s: float
    finest_us: int
    pairs: tuple[tuple[int, int], ...] = ()
    max_events: float = inf

    @cached_property
    def nothing(self) -> list[int]:
        """The row before the first one: all totals 0."""
        return [0] * self.widths[0]


_PLANS: dict[str, Plan] = {}  # by digest: hashing a declaration takes longer than a binary search


def plan_of(view: FeatureView) -> Plan:
    """Return the plan of a view, made once for each version."""
    plan = _PLANS.get(view.digest)
    if plan is None:
        plan = _PLANS[view.digest] = _plan(view)
    return plan


def _plan(view: FeatureView) -> Plan:
    layout = layout_of(view)
    widths, is_last = tuple(t.n_columns for t in layout.tracks), tuple(t.kind == "last" for t in layout.tracks)
    if isinstance(view.compute, Windowed):
        windows_us = tuple((w * SECOND_US, view.tiles_us[w]) for w in view.compute.windows_s)
        steps = tuple(_step(layout, aggregate) for aggregate in view.compute.aggregates)
        empty = tuple(0.0 if step.kind in ("count", "sum", "distinct") else nan for step in steps)
        finest_us = min(view.tiles_us.values())
        is_plain = all(step.kind in ("count", "mean", "share") and step.resolution == 1.0 for step in steps)
        pairs = tuple((s.columns[0], s.columns[-1] if len(s.columns) > 1 else 0) for s in steps if is_plain)
        kind, empty = "plain" if is_plain else "windowed", empty * len(windows_us)
        max_events = MAX_EVENTS if any(step.kind in ADDED for step in steps) else inf
        return Plan(kind, windows_us, steps, widths, is_last, empty, inf, finest_us, pairs, max_events)
    if isinstance(view.compute, Latest):
        return Plan("latest", (), (), widths, is_last, (nan,) * len(view.columns), view.ttl_s, 1)
    return Plan("open", (), (), widths, is_last, (0.0,), inf, 1)


def append_features(plan: Plan, state: bytes | None, at_us: int, values: list[float]) -> float:
    """Append the features of one key to `values`; return the key's age in seconds, NaN where it has no state."""
    if state is None:
        values.extend(plan.empty)
        return nan
    numbers = memoryview(state).cast("q")
    _READ[plan.kind](plan, state, numbers, at_us, values)
    return (at_us - numbers[0]) / SECOND_US if numbers[0] != NEVER_US else nan


def _plain(plan: Plan, state: bytes, numbers: "memoryview[int]", at_us: int, values: list[float]) -> None:
    n_rows = numbers[1]
    if not n_rows:
        values.extend(plan.empty)
        return
    begin, end = 2, 2 + n_rows
    after = begin + plan.widths[0] * n_rows
    head = numbers[end - 1 : after : n_rows].tolist()  # one row: its columns lie n_rows apart
    if head[1] >= plan.max_events:
        _require_few(plan, numbers, begin, n_rows, at_us)
    for window_us, tile_us in plan.windows_us:
        tail = bisect_right(numbers, (at_us - window_us) // tile_us * tile_us, begin, end) - 1
        base = numbers[tail:after:n_rows].tolist() if tail >= begin else plan.nothing
        for i, j in plan.pairs:
            n = head[i] - base[i]
            if not j:
                values.append(float(n))
            elif n:
                total = head[j] - base[j]
                values.append(total / n if -_EXACT <= total <= _EXACT else float(_int64(total)) / n)
            else:
                values.append(nan)


def _windowed(plan: Plan, state: bytes, numbers: "memoryview[int]", at_us: int, values: list[float]) -> None:
    n_rows = numbers[1]
    begin = 1 + len(plan.widths)
    end = begin + n_rows
    if not n_rows:
        values.extend(plan.empty)
        return
    head = end - 1
    if numbers[head + n_rows] >= plan.max_events:
        _require_few(plan, numbers, begin, n_rows, at_us)
    for window_us, tile_us in plan.windows_us:
        tail_us = (at_us - window_us) // tile_us * tile_us
        tail = bisect_right(numbers, tail_us, begin, end) - 1
        base = tail if tail >= begin else -1  # all that is kept lies in the window
        for step in plan.steps:
            kind = step.kind
            if kind == "count":
                values.append(float(_total(numbers, step.columns[0] * n_rows, head, base)))
            elif kind == "mean" or kind == "share":
                known = _total(numbers, step.columns[0] * n_rows, head, base)
                if known:
                    ratio = float(_total(numbers, step.columns[1] * n_rows, head, base)) / known
                    values.append(ratio if step.resolution == 1.0 else ratio * step.resolution)
                else:
                    values.append(nan)
            elif kind == "since_last":
                values.append((at_us - numbers[0]) / SECOND_US if head > tail else nan)
            elif step.track:
                values.append(_of_track(plan, step, state, numbers, tail_us))
            else:
                values.append(_sum_or_std(step, [_total(numbers, c * n_rows, head, base) for c in step.columns]))


def _require_few(plan: Plan, numbers: "memoryview[int]", begin: int, n_rows: int, at_us: int) -> None:
    """Do what `measures.finish` does: refuse a window in which too many values are added up."""
    column = next(step.column for step in plan.steps if step.kind in ADDED)
    end = begin + n_rows
    for window_us, tile_us in plan.windows_us:
        tail = bisect_right(numbers, (at_us - window_us) // tile_us * tile_us, begin, end) - 1
        require_few(column, _total(numbers, n_rows, end - 1, tail if tail >= begin else -1))


def _total(numbers: "memoryview[int]", offset: int, head: int, base: int) -> int:
    """Return a measure's total between two rows as int64 arithmetic has it: it wraps."""
    total = numbers[head + offset] - (numbers[base + offset] if base >= 0 else 0)
    return total if -_HALF <= total < _HALF else _int64(total)


def _sum_or_std(step: Step, totals: list[int]) -> float:
    """Do what `measures.finish` does, number by number."""
    if step.kind == "sum":
        value = float(totals[0])
    else:
        n, units, squares, high = totals
        if not n:
            return nan
        center = (units + n // 2) // n
        whole = (high << 32) + (squares - (high << 32)) % _ALL  # the lower bits of all squares are less than 2**64
        around = whole - 2 * center * units + n * center * center
        wrapped = _int64(around)
        rest = float(units - n * center) / n
        value = sqrt(max((wrapped + (around - wrapped >> 64) * WRAP) / n - rest * rest, 0.0))
    return value if step.resolution == 1.0 else value * step.resolution


def _of_track(plan: Plan, step: Step, state: bytes, numbers: "memoryview[int]", tail_us: int) -> float:
    """Return min, max, last or distinct of one window."""
    begin = 1 + len(plan.widths)
    for place in range(step.track):
        n_rows = numbers[1 + place]
        width = plan.widths[place]
        begin += (width + n_rows if n_rows else 0) if plan.is_last[place] else width * n_rows
    n_rows = numbers[1 + step.track]
    if step.kind == "last":
        is_inside = n_rows > 0 and -(-numbers[begin] // plan.finest_us) * plan.finest_us > tail_us
        return memoryview(state).cast("d")[begin + 1] if is_inside else nan
    first = bisect_right(numbers, tail_us, begin, begin + n_rows)
    if step.kind == "distinct":
        return float(min(begin + n_rows - first, step.at_most))
    return memoryview(state).cast("d")[first + n_rows] if first < begin + n_rows else nan


def _latest(plan: Plan, state: bytes, numbers: "memoryview[int]", at_us: int, values: list[float]) -> None:
    age_s = (at_us - numbers[2]) / SECOND_US if numbers[1] else inf
    if age_s <= plan.ttl_s:
        values.extend(memoryview(state).cast("d")[3 : 2 + plan.widths[0]])
        values.append(age_s)
    else:
        values.extend(plan.empty)


def _open(plan: Plan, state: bytes, numbers: "memoryview[int]", at_us: int, values: list[float]) -> None:
    values.append(float(numbers[2]) if numbers[1] else 0.0)


def _step(layout: Layout, aggregate: Aggregate) -> Step:
    columns = tuple(1 + layout.measures.index(measure) for measure in measures_of(aggregate))
    own = () if aggregate.kind in (*_SUM_LIKE, "since_last") else (aggregate.column,)
    track = next((i for i, t in enumerate(layout.tracks) if own and t.kind == aggregate.kind and own == t.columns), 0)
    return Step(aggregate.kind, aggregate.column, columns, track, aggregate.resolution, aggregate.at_most)


def _int64(value: int) -> int:
    """Return a difference of two int64 as int64 arithmetic has it: it wraps."""
    return value if -_HALF <= value < _HALF else (value + _HALF) % _ALL - _HALF


_READ = {"plain": _plain, "windowed": _windowed, "latest": _latest, "open": _open}
