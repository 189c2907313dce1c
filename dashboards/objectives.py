"""The four objectives of the overview, each held against its bound. Pure: reports in, tiles out."""

from dataclasses import dataclass
from enum import StrEnum

from dashboards.reports import Replay, Summary
from dashboards.wording import NOTHING, count, figure, share

ANSWERED_AT_LEAST = 0.9995
P95_MS_AT_MOST = 150.0


class Status(StrEnum):
    """Whether an objective is met, in a word."""

    MET = "Met"
    BREACHED = "Breached"
    UNKNOWN = "No data"


@dataclass(frozen=True)
class Tile:
    """One objective.

    Parameters
    ----------
    title
        What is measured.
    value
        The figure, as text.
    status
        Whether the objective is met.
    objective
        What is promised.
    detail
        Where the figure comes from.
    """

    title: str
    value: str
    status: Status
    objective: str
    detail: str


def judge_objectives(summary: Summary | None, replay: Replay | None) -> list[Tile]:
    """Return the tiles for answers, latency, freshness and skew; without a report their status is `UNKNOWN`."""
    return [_answered(replay), _latency(summary), _freshness(summary), _skew(summary)]


def overall(tiles: list[Tile], n_alerts: int) -> tuple[Status, str]:
    """Return the state of everything in one line.

    Examples
    --------
    >>> overall([], 2)
    (<Status.BREACHED: 'Breached'>, '2 alerts')
    """
    breached = [tile.title.lower() for tile in tiles if tile.status is Status.BREACHED]
    unknown = [tile for tile in tiles if tile.status is Status.UNKNOWN]
    if breached or n_alerts:
        parts = [f"Breached: {', '.join(breached)}"] if breached else []
        return Status.BREACHED, " · ".join([*parts, *([count(n_alerts, "alert")] if n_alerts else [])])
    if unknown:
        return Status.UNKNOWN, f"{len(unknown)} of {count(len(tiles), 'objective')} not measured yet"
    return Status.MET, "All objectives met, no alert"


def _status(is_met: bool) -> Status:
    return Status.MET if is_met else Status.BREACHED


def _answered(replay: Replay | None) -> Tile:
    title, objective = "Requests answered", f"at least {share(ANSWERED_AT_LEAST)}"
    if replay is None or not replay.n_requests:
        return Tile(title, NOTHING, Status.UNKNOWN, objective, "no replay has ended yet")
    answered = 1 - replay.n_failed / replay.n_requests
    detail = f"{replay.n_requests - replay.n_failed:,} of {replay.n_requests:,} in the last replay"
    return Tile(title, share(answered), _status(answered >= ANSWERED_AT_LEAST), objective, detail)


def _latency(summary: Summary | None) -> Tile:
    title, objective = "Latency, p95", f"at most {figure(P95_MS_AT_MOST)} ms"
    if summary is None or summary.p95_ms is None:
        return Tile(title, NOTHING, Status.UNKNOWN, objective, "no answer judged yet")
    detail = "of a request, at the service"
    return Tile(title, f"{figure(summary.p95_ms)} ms", _status(summary.p95_ms <= P95_MS_AT_MOST), objective, detail)


def _freshness(summary: Summary | None) -> Tile:
    title, objective = "Freshness", "all within their SLO"
    if summary is None or summary.as_of is None:
        return Tile(title, NOTHING, Status.UNKNOWN, objective, "nothing fed yet")
    late = summary.freshness_breaches
    value = count(len(late), "late source") if late else "All fresh"
    detail = (
        f"late: {', '.join(late[:2])}{' …' if len(late) > 2 else ''}" if late else "streams, views and served values"
    )
    return Tile(title, value, _status(not late), objective, detail)


def _skew(summary: Summary | None) -> Tile:
    title, objective = "Training-serving skew", "none allowed"
    if summary is None or not summary.skew_compared:
        return Tile(title, NOTHING, Status.UNKNOWN, objective, "no served value compared yet")
    n = summary.skew_mismatches
    detail = f"in {count(summary.skew_compared, 'value')} compared"
    return Tile(title, count(n, "mismatch", "mismatches"), _status(n == 0), objective, detail)
