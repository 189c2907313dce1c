import doctest

import pytest

from dashboards import objectives, wording
from dashboards.objectives import Status, judge_objectives, overall
from dashboards.reports import Replay, Summary

GOOD = Summary(as_of="2013-09-13T09:00:00+00:00", skew_compared=100, p95_ms=30.0)


def test_without_reports_nothing_is_claimed() -> None:
    tiles = judge_objectives(None, None)
    assert {tile.status for tile in tiles} == {Status.UNKNOWN}
    assert overall(tiles, 0) == (Status.UNKNOWN, "4 of 4 objectives not measured yet")


def test_a_healthy_day_meets_all() -> None:
    tiles = judge_objectives(GOOD, Replay("2013-09-12", 4000, 0))
    assert {tile.status for tile in tiles} == {Status.MET}
    assert overall(tiles, 0)[0] is Status.MET
    assert overall(tiles, 1) == (Status.BREACHED, "1 alert")


@pytest.mark.parametrize(
    ("summary", "replay", "title"),
    [
        (GOOD, Replay("2013-09-12", 4000, 3), "Requests answered"),
        (Summary(as_of="x", skew_compared=1, p95_ms=150.1), Replay("d", 1, 0), "Latency, p95"),
        (Summary(as_of="x", skew_compared=1, p95_ms=1, freshness_breaches=("a",)), Replay("d", 1, 0), "Freshness"),
        (Summary(as_of="x", skew_compared=9, skew_mismatches=1, p95_ms=1), Replay("d", 1, 0), "Training-serving skew"),
    ],
)
def test_each_objective_can_be_breached(summary: Summary, replay: Replay, title: str) -> None:
    breached = [tile for tile in judge_objectives(summary, replay) if tile.status is Status.BREACHED]
    assert [tile.title for tile in breached] == [title]


def test_a_share_just_below_all_is_never_shown_as_all() -> None:
    (answered, *_) = judge_objectives(None, Replay("d", 10_000_000, 1))
    assert (answered.value, answered.status) == ("99.99%", Status.MET)


@pytest.mark.parametrize("module", [wording, objectives])
def test_the_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
