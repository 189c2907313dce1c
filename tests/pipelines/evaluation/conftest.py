"""A trained data root for each test that wants to change one, and the bounds of a tier."""

import shutil
from pathlib import Path

import pytest

from flightdeck.core.layout import PROJECT, Layout, layout
from flightdeck.gates.policy import read_policies
from flightdeck.gates.thresholds import Thresholds
from tests.pipelines.evaluation.trained import write_trained


@pytest.fixture(scope="session")
def bounds() -> Thresholds:
    return read_policies(PROJECT / "conf").high.thresholds


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return write_trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(trained_once: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Return a copy of the data root, which is the one of this process."""
    shutil.copytree(trained_once.root, tmp_path / "data")
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    return layout()
