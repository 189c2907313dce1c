"""What the watch offers to route by: the table of the ledger, less what is not loaded."""

import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from flightdeck.core.files import write_atomically
from flightdeck.inference.bundle import Bundle
from flightdeck.release.order_entry import enter_orders
from flightdeck.release.orders import SUFFIX, Order
from flightdeck.release.route_edits import add_experiment, add_segment, set_shadow
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.state import fold
from serving.release_watch import LiveReleases, Refusal, ReleaseWatch
from serving.use_case import running_code
from tests.serving.world import World


class Watched:
    """A world and a watch that follows it, poll by poll."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.refused: list[Refusal] = []
        self.watch = self.restart()

    def restart(self) -> ReleaseWatch:
        """Return a watch that has loaded nothing yet."""
        folders = self.world.layout
        self.watch = ReleaseWatch(
            self.world.ledger, folders.bundles, running_code(), self.refused.append, folders.orders
        )
        return self.watch

    def poll(self) -> LiveReleases:
        self.watch.poll()
        return self.watch.live

    def reject(self, version: int) -> None:
        digest = fold(self.world.ledger.records()).versions[version].digest
        self.world.ledger.append("rejected", actor="test", subject=str(version), detail={"digest": digest})


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def spoil(bundle: Bundle) -> None:
    path = bundle.path / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"!")


def test_nothing_released_is_an_empty_table(watched: Watched) -> None:
    live = watched.poll()
    assert (live.champion, live.canary, live.canary_share, live.loaded) == (None, None, 0.0, ())
    assert live.table.versions == frozenset()


def test_every_version_of_the_table_is_loaded_and_a_rejected_one_leaves(watched: Watched) -> None:
    champion = watched.world.release(watched.world.seal(seed=1))
    canary = watched.world.release(watched.world.seal(seed=2), share=0.1)
    shadow, arm = watched.world.stage(watched.world.seal(seed=3)), watched.world.stage(watched.world.seal(seed=4))
    watched.world.route(
        lambda state: set_shadow(state, shadow, 0.5),
        lambda state: add_segment(state, "EWR", {"origin": ["EWR"]}, champion=champion),
        lambda state: add_experiment(state, "prices", [("new", arm, 0.2)]),
    )
    live = watched.poll()
    assert [live.release(version).version for version in (champion, canary, shadow, arm)] == [1, 2, 3, 4]
    assert live.table.digests == {version: live.release(version).digest for version in (1, 2, 3, 4)}
    assert (live.canary_share, live.champion, live.canary) == (0.1, live.release(1), live.release(2))
    assert [(name, release.version) for name, release in live.loaded] == [
        ("champion", 1), ("prices:new", 4), ("canary", 2), ("EWR/champion", 1), ("shadow", 3),
    ]  # fmt: skip
    assert watched.poll() is live, "nothing new, nothing made anew"
    watched.reject(arm)
    after = watched.poll()
    assert after.table.versions == {1, 2, 3}
    assert after.release(1) is live.release(1)
    assert arm not in after.releases


def test_a_version_that_is_refused_is_left_out_and_named(watched: Watched) -> None:
    watched.world.release(watched.world.seal(seed=1))
    good, bad = watched.world.seal(seed=2), watched.world.seal(seed=3)
    spoil(bad)
    first, second = watched.world.stage(good), watched.world.stage(bad)
    watched.world.route(
        lambda state: add_experiment(state, "prices", [("good", first, 0.2), ("bad", second, 0.2)]),
        lambda state: set_shadow(state, second, 1.0),
    )
    live = watched.poll()
    assert live.table.roles() == [(1, "champion"), (2, "arm prices:good with a share of 0.2")]
    assert [(refusal.arm, refusal.version) for refusal in live.refusals] == [("routed", second)]
    assert "altered: model.onnx" in live.refusals[0].reason
    assert len(watched.refused) == 1
    assert watched.poll() is live
    assert len(watched.refused) == 1, "looked at once as long as the files stay"


def test_the_previous_champion_is_resident_after_a_restart_even_if_its_files_are_lost_then(watched: Watched) -> None:
    former = watched.world.seal(seed=1)
    watched.world.release(former)
    watched.world.release(watched.world.seal(seed=2))
    assert watched.poll().table.versions == {2}
    spoil(former)
    watched.world.roll_back(2, 1)
    live = watched.poll()
    assert live.champion is not None
    assert live.champion.version == 1
    assert [(refusal.arm, refusal.version) for refusal in live.refusals] == [("champion", 1)]


def test_a_lost_way_back_is_named_before_it_is_needed(watched: Watched) -> None:
    former = watched.world.seal(seed=1)
    watched.world.release(former)
    watched.world.release(watched.world.seal(seed=2))
    spoil(former)
    live = watched.poll()
    assert [(refusal.arm, refusal.version) for refusal in live.refusals] == [("previous", 1)]
    assert live.table.roles() == [(2, "champion")]


def test_a_refused_champion_stays_with_the_one_before_and_its_segments_with_it(watched: Watched) -> None:
    watched.world.release(watched.world.seal(seed=1))
    watched.poll()
    bad = watched.world.seal(seed=2)
    spoil(bad)
    watched.world.release(bad)
    watched.world.route(lambda state: add_segment(state, "EWR", {"origin": ["EWR"]}, champion=2))
    live = watched.poll()
    assert live.table.roles() == [(1, "champion")]
    assert [(name, release.version) for name, release in live.loaded] == [("champion", 1), ("EWR/champion", 1)]
    watched.restart()
    assert watched.poll().table.roles() == [(1, "champion")]


def test_the_ledger_comes_before_one_more_bundle(watched: Watched) -> None:
    """Of two shadows, the second waits for the next look because the ledger has moved while the first was opened."""
    watched.world.release(watched.world.seal(seed=1))
    versions = [watched.world.stage(watched.world.seal(seed=seed)) for seed in (2, 3)]
    watched.world.route(*(lambda state, v=version: set_shadow(state, v, 1.0) for version in versions))  # type: ignore[misc]
    watched.poll()
    watched.restart()
    n_looks = 0

    class Moving(SqliteLedger):
        def head(self) -> int:
            nonlocal n_looks
            n_looks += 1
            if n_looks == 2:
                watched.world.ledger.append("alert", actor="test", subject="-", detail={"name": "drift"})
            return super().head()

    watched.watch._ledger = Moving(watched.world.layout.ledger, watched.world.ledger.clock)
    assert watched.poll().table.versions == {1, 2}
    assert watched.poll().table.versions == {1, 2, 3}


def test_a_segment_on_a_column_that_requests_lack_is_told(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.world.release(watched.world.seal(seed=1))
    watched.world.route(lambda state: add_segment(state, "odd", {"planet": ["Mars"]}))
    watched.poll()
    assert "segment odd gets no item: requests have no column planet" in caplog.text


def test_a_bundle_that_does_not_fit_waits_for_memory_and_the_old_one_serves_on(watched: Watched) -> None:
    left: list[int | None] = [None]
    folders = watched.world.layout
    watched.watch = ReleaseWatch(
        watched.world.ledger, folders.bundles, running_code(), watched.refused.append, folders.orders, lambda: left[0]
    )
    watched.world.release(watched.world.seal(seed=1))
    first = watched.poll().champion
    left[0] = 1000
    watched.world.release(watched.world.seal(seed=2))
    live = watched.poll()
    assert live.champion is first
    assert [(refusal.version, refusal.needed_bytes > 1000) for refusal in live.refusals] == [(2, True)]
    assert "of memory, 0 MB are available" in live.refusals[0].reason
    left[0] = live.refusals[0].needed_bytes - 1
    assert watched.poll() is live
    assert len(watched.refused) == 1, "not opened again as long as it does not fit"
    left[0] = live.refusals[0].needed_bytes
    after = watched.poll()
    assert after.table.champion == 2
    assert after.refusals == ()


@pytest.mark.parametrize("is_ledger_gone", [False, True])
def test_an_order_is_obeyed_although_the_ledger_does_not_know_it(watched: Watched, is_ledger_gone: bool) -> None:
    world = watched.world
    for seed in (1, 2):
        world.release(world.seal(seed=seed))
    assert watched.poll().table.champion == 2
    at = world.ledger.clock.now() + timedelta(seconds=1)
    order = Order("o", at, "Ada", "stated", "it harms")
    if is_ledger_gone:
        shutil.move(world.layout.ledger, world.layout.root / "away")
    write_atomically(world.layout.orders / f"o{SUFFIX}", msgspec.json.encode(order))
    live = watched.poll()
    assert live.table.champion == 1
    assert live.champion is not None and live.champion.version == 1, "it was in memory"
    assert bool(live.problem) is is_ledger_gone
    assert watched.poll() == live, "obeyed once"
    if not is_ledger_gone:
        enter_orders(world.ledger, world.layout.orders)
        assert watched.poll().table.champion == 1
        assert fold(world.ledger.records()).champion == 1
