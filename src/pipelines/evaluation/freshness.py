"""The data that a draft was trained on: is it still in the event log, was it sound, is it young enough.

Rows that broke a source's contract are counted by ingestion, in its report; events that broke a stream's contract wait
as dead letters. Both are turned away before anything learns from them: where they are many, the model has seen only a
part of the world.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow.compute as pc

from flightdeck.core.clock import Clock, SystemClock, to_us
from flightdeck.core.errors import ConfigError, ContractViolation, NotFoundError, some
from flightdeck.core.layout import Layout, layout
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.log import EventLog
from flightdeck.gates.bounds import at_most
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check

HOUR_US = 3_600_000_000
_INGEST = "kedro run --pipelines ingestion,features,training"


def freshness(evidence: Evidence, thresholds: Thresholds, clock: Clock | None = None) -> list[Check]:
    """Check that the log holds what the draft was trained on, how much was turned away, how old the newest event is.

    Parameters
    ----------
    evidence, thresholds
        As of every family.
    clock
        Tells the present (default: the machine's clock).

    Raises
    ------
    ConfigError
        If the draft records no data versions.
    ContractViolation
        If the report of the ingestion is about other versions, or cannot be read.
    NotFoundError
        If there is no such report, or the log lacks a stream whose age is asked for.
    """
    recorded: Mapping[str, Mapping[str, Any]] = evidence.training.get("data_versions", {})
    if not recorded:
        raise ConfigError("looking at the data of a draft: its training.json names no data versions", next_step=_INGEST)
    place = layout()
    log = EventLog(place.event_log)
    checks = [_version_check(log, recorded, thresholds), _quarantine_check(place, recorded, thresholds)]
    if thresholds.data_age_h_at_most is not None:
        checks.append(_age_check(log, recorded, clock or SystemClock(), thresholds.data_age_h_at_most, thresholds))
    return checks


def _version_check(log: EventLog, recorded: Mapping[str, Mapping[str, Any]], thresholds: Thresholds) -> Check:
    problems = [problem for name in sorted(recorded) if (problem := _version_problem(log, name, recorded[name]))]
    detail = f"streams that the event log does not hold as the draft read them: {some(problems) or 'none'}"
    return at_most("data_in_log", len(problems), 0, thresholds, detail)


def _version_problem(log: EventLog, stream: str, recorded: Mapping[str, Any]) -> str:
    try:
        found = log.version(stream, int(recorded["version"]))
    except NotFoundError:
        return f"{stream} has no version {recorded['version']}"
    if found.digest != recorded["digest"]:
        return f"{stream} {found.version} is {found.digest[:12]}, not {str(recorded['digest'])[:12]}"
    return ""


def _quarantine_check(place: Layout, recorded: Mapping[str, Mapping[str, Any]], thresholds: Thresholds) -> Check:
    """Hold the largest share of rows turned away against the bound: of any source, and of any stream."""
    report = _read_report(place)
    other = [name for name in sorted(recorded) if report["streams"].get(name) != recorded[name]]
    if other:
        raise ContractViolation(
            f"reading {place.ingestion_report}: it is about other versions of {some(other)} than the draft has read",
            next_step=f"ingest and train again: {_INGEST}",
        )
    letters = DeadLetters(place.dead_letters)
    turned_away = {
        f"source {name}": (counts["n_quarantined"], counts["n_rows"]) for name, counts in report["sources"].items()
    }
    for name in recorded:
        n_waiting = len(letters.waiting(name))
        turned_away[f"stream {name}"] = n_waiting, n_waiting + recorded[name]["n_rows"]
    pct = {name: 100 * n / n_rows if n_rows else 0.0 for name, (n, n_rows) in turned_away.items()}
    worst = max(pct, key=lambda name: pct[name])
    n, n_rows = turned_away[worst]
    detail = f"percent of a source's rows or a stream's events turned away; most of {worst}, {n:,} of {n_rows:,}"
    return at_most("quarantined_pct", pct[worst], thresholds.quarantined_pct_at_most, thresholds, detail)


def _age_check(
    log: EventLog, recorded: Mapping[str, Mapping[str, Any]], clock: Clock, bound_h: float, thresholds: Thresholds
) -> Check:
    """Hold the age of the newest event that training has seen against the bound; the most silent stream counts."""
    now_us = to_us(clock.now())
    age_h = {}
    for name in sorted(recorded):
        known = log.read(name, version=int(recorded[name]["version"]), columns=["created_timestamp"])
        newest = pc.max(known["created_timestamp"])
        age_h[name] = (now_us - newest.value) / HOUR_US if known.num_rows else float("inf")
    oldest = max(age_h, key=lambda name: age_h[name])
    detail = f"hours since the newest event that training has seen became known, longest of {oldest}"
    return at_most("data_age_h", age_h[oldest], bound_h, thresholds, detail)


def _read_report(place: Layout) -> dict[str, Any]:
    path = place.ingestion_report
    try:
        report = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        _ = report["sources"], report["streams"]
    except FileNotFoundError as error:
        raise NotFoundError(f"reading {path}: no such file", next_step=f"ingest the data: {_INGEST}") from error
    except (msgspec.DecodeError, KeyError) as error:
        raise ContractViolation(f"reading {path}: {error!r}", next_step=f"ingest the data: {_INGEST}") from error
    return report
