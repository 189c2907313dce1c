"""kill -9 of who follows the ledger, as it changes what answers: it wrote nothing, so the next one tells the truth."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flightdeck.release.record import Record
from flightdeck.release.route_edits import set_shadow
from flightdeck.release.routing import routing_table
from flightdeck.release.state import fold
from serving.release_watch import ReleaseWatch
from serving.use_case import running_code
from tests.release_crashes import KILLED, run_and_kill
from tests.serving.load import load
from tests.serving.process import serving
from tests.serving.test_workers import N_CLIENTS, wait_until_both_serve
from tests.serving.world import World, ask

PLACES = ("watch.opened", "watch.swapped")


def append(world: World, action: str, version: int, **detail: object) -> None:
    digest = fold(world.ledger.records()).versions[version].digest
    world.ledger.append(action, actor="test", subject=str(version), detail={"digest": digest, **detail})


def roll_back_all(world: World) -> None:
    world.roll_back(3, 2)
    world.roll_back(2, 1)


ACTS: dict[str, tuple[Callable[[World], None], list[tuple[int, str]]]] = {
    "promote": (lambda world: append(world, "promoted", 3, to="prod"), [(3, "champion"), (4, "shadow")]),
    "roll back the canary": (lambda world: world.roll_back(3, 2), [(2, "champion"), (4, "shadow")]),
    "roll back the champion": (roll_back_all, [(1, "champion"), (4, "shadow")]),
    "supersede": (
        lambda world: append(world, "promoted", 4, to="canary", share=0.1, supersedes=3),
        [(2, "champion"), (4, "canary"), (4, "shadow")],
    ),
    "quarantine": (lambda world: append(world, "rejected", 4, reason="odd"), [(2, "champion"), (3, "canary")]),
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world with champion 2, who replaced 1, canary 3, and 4 in staging as a shadow by hand."""
    made = World(tmp_path / "world")
    for seed in (1, 2):
        made.release(made.seal(seed=seed))
    made.release(made.seal(seed=3), share=0.1)
    shadow = made.stage(made.seal(seed=4))
    made.route(lambda state: set_shadow(state, shadow, 1.0))
    return made


def watch(world: World) -> ReleaseWatch:
    folders = world.layout
    return ReleaseWatch(world.ledger, folders.bundles, running_code(), lambda refusal: None, folders.orders)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("act", ACTS)
def test_whoever_comes_after_offers_what_the_ledger_says(world: World, tmp_path: Path, act: str, place: str) -> None:
    change, offered = ACTS[act]
    before = world.ledger.records()

    def follow(_: Callable[[], None]) -> None:
        following = watch(world)
        following.poll()
        change(world)
        following.poll()

    assert run_and_kill(follow, place, 2, tmp_path / "notes") == KILLED
    after: list[Record] = world.ledger.records()
    assert after[: len(before)] == before and len(after) > len(before)
    following = watch(world)
    following.poll()
    live = following.live
    arms = [(release.version, arm) for arm, release in live.loaded]
    assert sorted(arms) == offered
    assert live.table == routing_table(fold(after))
    assert (live.refusals, live.problem) == ((), "")


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_workers_killed_as_they_swap_come_back_with_the_new_champion(live_world: World, place: str) -> None:
    """Both die at their second swap, which is the release of version 2; those after them swap once."""
    variables = {"FLIGHTDECK_FAILPOINT": f"{place}:2"}
    with serving(live_world.layout.root, workers=2, variables=variables) as service:
        before = wait_until_both_serve(service, [])
        former = max(version for _, version in service.versions())
        with load(service, N_CLIENTS) as asking:
            version = live_world.release(live_world.seal(seed=former + 1))
            wait_until_both_serve(service, before)
            n_failed = asking.n_failed
            asking.wait_for(100)
            assert asking.n_failed == n_failed, "none fails later"
        assert version == former + 1
        assert n_failed <= 2 * N_CLIENTS, "what was in flight on the two, at most"
        assert set(asking.statuses) == {200}
        said = service.predict(ask(3)).json()["predictions"]
        assert {(one["model_version"], one["mode"]) for one in said} == {(version, "model")}
