"""The fold says where every version stands, and refuses a ledger that no command of ours wrote."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from flightdeck.core.errors import LedgerCorrupt, ReleaseRefused
from flightdeck.release.moves import require_promotable, rollback_target, version_state
from flightdeck.release.record import GENESIS, Record, make_record
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)
Step = tuple[str, str, dict[str, object]]


def digest(version: int) -> str:
    return f"{version:064d}"


def registered(version: int) -> Step:
    return "registered", str(version), {"digest": digest(version), "tier": "medium", "model_name": "flight-delay"}


def promoted(version: int, to: str, share: float | None = None) -> Step:
    detail: dict[str, object] = {"digest": digest(version), "to": to}
    return "promoted", str(version), detail if share is None else {**detail, "share": share}


def to_prod(version: int) -> list[Step]:
    return [
        registered(version),
        promoted(version, "staging"),
        promoted(version, "canary", 0.1),
        promoted(version, "prod"),
    ]


def rolled_back(version: int, to: int | None) -> Step:
    return "rolled_back", str(version), {"from": version, "to": to}


def chain(*steps: Step) -> list[Record]:
    records: list[Record] = []
    for action, subject, detail in steps:
        previous = records[-1].digest if records else GENESIS
        records.append(make_record(len(records) + 1, NOON, action, "ada", subject, detail, previous))
    return records


def stages(state: ReleaseState) -> dict[int, str]:
    return {version: current.stage for version, current in state.versions.items()}


def test_nothing_released_is_the_empty_state() -> None:
    state = fold([])
    assert (state.champion, state.canary, state.candidate, state.canary_share, state.seq) == (None, None, None, 0.0, 0)
    assert state.model_name is None


def test_a_first_version_goes_all_the_way_without_a_champion() -> None:
    state = fold(chain(*to_prod(1)))
    assert state.champion == 1
    assert state.previous_champions == ()
    assert state.versions[1].canary_share == 0.0


def test_a_canary_has_its_share_and_a_champion_beside_it() -> None:
    state = fold(chain(*to_prod(1), *to_prod(2)[:3], promoted(2, "canary", 0.5)))
    assert (state.champion, state.canary, state.canary_share) == (1, 2, 0.5)


def test_a_new_champion_archives_the_old_one_and_a_rollback_brings_it_back() -> None:
    released = [*to_prod(1), *to_prod(2), *to_prod(3)]
    state = fold(chain(*released))
    assert stages(state) == {1: "archived", 2: "archived", 3: "prod"}
    assert state.previous_champions == (1, 2)
    back = fold(chain(*released, rolled_back(3, 2)))
    assert (back.champion, stages(back)[3], back.previous_champions) == (2, "rolled_back", (1,))
    further = fold(chain(*released, rolled_back(3, 2), rolled_back(2, 1)))
    assert (further.champion, further.previous_champions) == (1, ())


def test_a_rollback_takes_the_canary_first() -> None:
    state = fold(chain(*to_prod(1), *to_prod(2)[:3], rolled_back(2, 1)))
    assert stages(state) == {1: "prod", 2: "rolled_back"}


def test_the_newest_waiting_version_is_the_candidate() -> None:
    assert fold(chain(registered(1), registered(2), promoted(1, "staging"))).candidate == 2


def test_approvals_of_a_version_taken_out_do_not_count_again() -> None:
    approval: Step = ("approved", "1", {"digest": digest(1)})
    steps = [registered(1), approval, *to_prod(1)[1:3], rolled_back(1, None)]
    assert fold(chain(*steps)).versions[1].approved_by == ()


def test_other_actions_move_only_the_head() -> None:
    before = fold(chain(*to_prod(1)))
    after = fold(chain(*to_prod(1), ("alert", "-", {"name": "drift"})))
    assert after.versions == before.versions
    assert after.seq == before.seq + 1


def test_folding_in_two_parts_is_folding_at_once() -> None:
    records = chain(*to_prod(1), *to_prod(2), rolled_back(2, 1))
    for at in range(len(records) + 1):
        assert fold(records[at:], fold(records[:at])) == fold(records)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([promoted(1, "staging")], id="unknown version"),
        pytest.param([registered(1), registered(1)], id="registered twice"),
        pytest.param([registered(1), promoted(1, "prod")], id="stage skipped"),
        pytest.param([registered(1), promoted(1, "production")], id="no such stage"),
        pytest.param([*to_prod(1)[:3], *to_prod(2)[:3]], id="two canaries"),
        pytest.param([*to_prod(1), rolled_back(1, None)], id="back to nothing"),
        pytest.param([*to_prod(1), *to_prod(2), rolled_back(1, None)], id="rolls back the wrong one"),
        pytest.param([rolled_back(1, None)], id="nothing live"),
        pytest.param([*to_prod(1), ("rejected", "1", {"digest": digest(1)})], id="champion rejected"),
        pytest.param([registered(1), ("approved", "1", {"digest": digest(2)})], id="approval of another bundle"),
        pytest.param([registered(1), ("approved", "1", {})], id="approval of nothing"),
        pytest.param([("registered", "one", {})], id="no number"),
    ],
)
def test_moves_that_no_command_makes_are_corruption(steps: list[Step]) -> None:
    with pytest.raises(LedgerCorrupt, match="cannot be"):
        fold(chain(*steps))


def test_refusals_name_what_is_legal() -> None:
    state = fold(chain(*to_prod(1), registered(2), *to_prod(3)[:3]))
    with pytest.raises(ReleaseRefused, match="versions there: 1, 2, 3"):
        version_state(state, 9)
    with pytest.raises(ReleaseRefused, match="legal from candidate: staging"):
        require_promotable(state, 2, "prod")
    with pytest.raises(ReleaseRefused, match="no promotion"):
        require_promotable(state, 1, "staging")
    waiting = fold(chain(*to_prod(3)[:3], registered(4), promoted(4, "staging")))
    with pytest.raises(ReleaseRefused, match="version 3 is the canary"):
        require_promotable(waiting, 4, "canary")


@pytest.mark.parametrize(
    ("steps", "message"),
    [([], "nothing is live"), (to_prod(1), "there is none before it"), ([registered(1)], "nothing")],
)
def test_a_rollback_without_target_says_so(steps: list[Step], message: str) -> None:
    with pytest.raises(ReleaseRefused, match=message):
        rollback_target(fold(chain(*steps)))


@pytest.mark.parametrize("use", [lambda s: s.champion, lambda s: s.canary, lambda s: s.model_name])
def test_the_state_is_a_plain_value(use: Callable[[ReleaseState], object]) -> None:
    assert use(fold(chain(*to_prod(1)))) == use(fold(chain(*to_prod(1))))


def test_the_state_knows_its_last_record() -> None:
    records = chain(*to_prod(1))
    assert fold([]).digest == GENESIS
    assert fold(records).digest == records[-1].digest
