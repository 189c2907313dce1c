"""Answers of the prediction log as evidence about one canary: who decided for each, and whether that version failed.

Who decides for a unit is computed from the routing table again, by the code that the service runs, and compared with
the arm that was logged: an answer from before the table reached a worker, or of another segment, says nothing here.

A version fails where it raised, hung, gave something that is no probability, or was too dear for the time that was
left: a load that is too much for both arms fails both alike, one that is too much for the dearer one is its fault. What
is decided for everybody before an arm is looked at (a store that is away, a budget, a drill) is no evidence and left
out; what a client did wrong is never in the log.
"""

from collections.abc import Collection, Mapping, Set
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.inference.routes import CANARY, CHAMPION, Route
from flightdeck.inference.routing import RoutingTable
from flightdeck.release.rollout.run_cost import USUAL, comparable_ms, run_sizes

OWN_FAULTS = ("raised", "too_slow", "wrong_shape", "not_finite", "out_of_range", "overload", "deadline")
UNIT_BYTES = 8
Floats = npt.NDArray[np.float64]


class Served(NamedTuple):
    """Answers of the canary and of the champion beside it; arrays of shape `(n,)`, in the order of the log.

    Parameters
    ----------
    at_us
        When each was logged, UTC microseconds.
    unit
        Key of the unit, 64 bits.
    is_canary
        Whether the canary decides for it, else the champion.
    is_error
        Whether the version that decides failed; somebody else answered then.
    cost_ms
        What the run of the model that answered it took for an item (`run_cost.comparable_ms`); NaN where it failed.
    prediction
        Probability of the version that decides; NaN where it failed.
    """

    at_us: npt.NDArray[np.int64]
    unit: npt.NDArray[np.uint64]
    is_canary: npt.NDArray[np.bool_]
    is_error: npt.NDArray[np.bool_]
    cost_ms: Floats
    prediction: Floats

    def __len__(self) -> int:
        return len(self.at_us)


def served_of(
    records: pa.Table, table: RoutingTable, *, segment: str = "", since_us: int, fixed: float = USUAL
) -> Served:
    """Return the evidence in some records of the prediction log.

    Parameters
    ----------
    records
        Columns of `prediction_log_table.SCHEMA` and the request columns.
    table
        Routing table of the step.
    segment
        Segment whose canary it is; empty for the canary of all other items.
    since_us
        When the step began: earlier records do not count.
    fixed
        Part of a run that does not depend on its items, in units of an item.
    """
    column = _columns(records)
    arm = column("arm").tolist()
    routes = table.compiled.route(column("unit_id").tolist(), _request(records, table))
    decided = [routes.routes[at] for at in routes.choice.tolist()]
    is_here = np.array(
        [
            way.segment == segment and _named(way) == logged and way.arm in (CANARY, CHAMPION)
            for way, logged in zip(decided, arm, strict=True)
        ],
        dtype=bool,
    )
    at_us = records.column("logged_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
    reason, mode, version = column("reason").tolist(), column("mode").tolist(), column("model_version").tolist()
    is_error = np.array([_is_own_fault(why, way.arm) for why, way in zip(reason, decided, strict=True)], dtype=bool)
    is_own = np.array(
        [
            how == "model" and answered == str(way.version)
            for how, answered, way in zip(mode, version, decided, strict=True)
        ],
        dtype=bool,
    )
    rows = np.flatnonzero(is_here & (at_us >= since_us) & (is_error | is_own))
    cost_ms = comparable_ms(_numbers(records, "model_ms"), run_sizes(records), fixed)
    answered = _numbers(records, "probability")
    units = column("unit_id").tolist()
    return Served(
        at_us[rows],
        np.array([unit_key(units[row]) for row in rows.tolist()], dtype=np.uint64),
        np.array([decided[row].arm == CANARY for row in rows.tolist()], dtype=bool),
        is_error[rows],
        np.where(is_error, np.nan, cost_ms)[rows],
        np.where(is_error, np.nan, answered)[rows],
    )


def begun_of(
    records: pa.Table, canary: int, begun: Collection[str], since_us: int, segment: str = ""
) -> tuple[Set[str], pa.Table]:
    """Return the workers that have the step's table, and the records of theirs from then on.

    A worker learns of a step a moment after it began. It has learnt of it once it has logged an answer of the canary's
    units; what it logs in later batches is evidence, whatever it is, so that no arm is favoured.

    Parameters
    ----------
    records
        Records of one segment of the log, in order.
    canary
        Version of the canary.
    begun
        Names of the workers that are known to have the table.
    since_us
        When the step began.
    segment
        Segment whose canary it is; empty for the canary of all other items.
    """
    at_us = records.column("logged_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
    records = records.filter(pa.array(at_us >= since_us))
    if not len(records):
        return set(), records
    worker = records.column("segment")[0].as_py().rpartition("-")[0]
    if worker in begun:
        return set(), records
    version = records.column("model_version").to_numpy(zero_copy_only=False)
    arm = records.column("arm").to_numpy(zero_copy_only=False)
    reason = records.column("reason").to_pylist()
    is_canary = (arm == (f"{segment}/{CANARY}" if segment else CANARY)) & np.array(
        [answered == str(canary) or _is_own_fault(why, CANARY) for answered, why in zip(version, reason, strict=True)]
    )
    if not is_canary.any():
        return set(), records.slice(0, 0)
    frame_at = records.column("frame_at").to_numpy(zero_copy_only=False)
    first = frame_at[is_canary.argmax()]
    return {worker}, records.filter(pa.array(frame_at > first))


def unit_key(unit: str) -> int:
    """Return 64 bits that stand for a unit."""
    return int.from_bytes(blake2b(unit.encode(), digest_size=UNIT_BYTES).digest(), "little")


def _named(way: Route) -> str:
    """Return the arm as the log has it."""
    return f"{way.segment}/{way.arm}" if way.segment else way.arm


def _is_own_fault(reason: str | None, arm: str) -> bool:
    if not reason:
        return False
    faults = (part.strip().partition(":") for part in reason.split(";"))
    return any(rung == arm and why in OWN_FAULTS for rung, _, why in faults)


def _request(records: pa.Table, table: RoutingTable) -> Mapping[str, npt.NDArray[Any]]:
    """Return the request columns that the segments of the table look at."""
    named = {name for segment in table.rules.segments for name in segment.where}
    there = {name: name if f"request_{name}" not in records.column_names else f"request_{name}" for name in named}
    return {
        name: records.column(logged).to_numpy(zero_copy_only=False)
        for name, logged in there.items()
        if logged in records.column_names
    }


def _columns(records: pa.Table) -> Any:
    return lambda name: records.column(name).to_numpy(zero_copy_only=False)


def _numbers(records: pa.Table, name: str) -> Floats:
    if name not in records.column_names:
        return np.full(len(records), np.nan)
    values: Floats = records.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values
