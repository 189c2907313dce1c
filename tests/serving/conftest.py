from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.process import Service, serving
from tests.serving.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("live"))
    world.feed_store()
    world.release(world.seal())
    return world


@pytest.fixture(scope="module")
def service(live_world: World) -> Iterator[Service]:
    """A service with a champion and a fed store, on event time, shared by the tests of a module."""
    with serving(live_world.layout.root) as running:
        yield running
