"""`kedro release rehearse`: a real service, started for it, really goes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.release import release
from flightdeck.release.state import fold
from tests.serving.world import World, broken_model


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("KEDRO_ENV", "test")
    world = World(tmp_path)
    world.feed_store()
    world.release(world.seal(seed=1))
    yield world


def rehearse(version: int) -> Result:
    return CliRunner().invoke(release, ["rehearse", str(version), "--by", "Ada"])


def test_the_way_back_of_a_version_in_staging_is_performed_and_recorded(world: World) -> None:
    version = world.stage(world.seal(seed=2))
    head = world.ledger.head()
    result = rehearse(version)
    assert result.exit_code == 0, result.output
    assert f"version {version}: its rollback to version 1 took" in result.output
    state = fold(world.ledger.records())
    done = state.versions[version].rehearsal
    assert done is not None and done.to == 1 and 0 < done.duration_s < 60
    assert world.ledger.head() == head + 1, "the real ledger has the rehearsal and nothing else"
    assert (state.champion, state.versions[version].stage) == (1, "staging")
    assert [path.name for path in world.layout.bundles.parent.glob(".rehearsal-*")] == []
    back = rehearse(1)
    assert back.exit_code == 1
    assert "there is no other champion to return to" in back.output


def test_a_version_that_does_not_answer_itself_has_no_rehearsal(world: World) -> None:
    version = world.stage(world.seal(model=broken_model("nan")))
    head = world.ledger.head()
    result = rehearse(version)
    assert result.exit_code == 3, result.output
    assert "only the versions [1] answer" in result.output
    assert world.ledger.head() == head
