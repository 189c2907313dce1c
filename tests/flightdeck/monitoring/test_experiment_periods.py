"""Periods of experiments, from the records that the commands write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flightdeck.inference.bundle import Bundle
from flightdeck.monitoring.experiment_periods import experiment_periods
from flightdeck.release import route_edits
from flightdeck.release.ledger import Ledger
from flightdeck.release.record import Record
from flightdeck.release.route_commands import change_routes
from flightdeck.release.stages import ReleaseState
from tests.flightdeck.release.conftest import bundles, enter, ledger  # noqa: F401
from tests.release_desk import PEOPLE, POLICIES, approve, bring, person

Edit = Callable[[ReleaseState], route_edits.Edit]


@pytest.fixture
def change(ledger: Ledger, bundles: Path, enter: Callable[..., Bundle]) -> Callable[[Edit], Record]:  # noqa: F811
    for version in (1, 2):
        enter(version)
        approve(ledger, version, by="Ada", bundles=bundles)
        bring(ledger, version, "staging", bundles=bundles)

    def change(edit: Edit) -> Record:
        return change_routes(
            ledger, edit, by=person("Ada"), policies=POLICIES, people=PEOPLE, bundles=bundles, reason="to see"
        )

    return change


def begin(name: str) -> Edit:
    return lambda state: route_edits.add_experiment(state, name, [("old", 1, 0.2), ("new", 2, 0.2)])


def test_a_period_lasts_until_the_arms_change(ledger: Ledger, change: Callable[[Edit], Record]) -> None:  # noqa: F811
    assert experiment_periods(ledger.records()) == []
    first = change(begin("one"))
    second = change(begin("two"))
    assert [(p.experiment.name, p.seq, p.until) for p in experiment_periods(ledger.records())] == [
        ("one", first.seq, None),
        ("two", second.seq, None),
    ]
    grown = change(lambda state: route_edits.set_arm_share(state, "one", "new", 0.4))
    ended = change(lambda state: route_edits.remove_experiment(state, "two"))
    one, two = experiment_periods(ledger.records())
    assert (one.seq, one.since, one.until) == (grown.seq, grown.recorded_at, None)
    assert [arm.share for arm in one.experiment.arms] == [0.2, 0.4]
    assert (two.experiment.name, two.seq, two.until) == ("two", second.seq, ended.recorded_at)
    again = change(begin("two"))
    assert [(p.seq, p.until) for p in experiment_periods(ledger.records())] == [(grown.seq, None), (again.seq, None)]
