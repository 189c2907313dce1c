"""Synthetic drafts and the bounds they are held against."""

from pathlib import Path

import pytest

from flightdeck.core.layout import PROJECT
from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.policy import read_policies
from flightdeck.gates.thresholds import Thresholds
from tests.candidates import write_draft


@pytest.fixture(scope="session")
def bounds() -> Thresholds:
    return read_policies(PROJECT / "conf").medium.thresholds


@pytest.fixture(scope="session")
def good_draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a draft that passes; tests that change one write their own."""
    return write_draft(tmp_path_factory.mktemp("good") / "draft")


@pytest.fixture(scope="session")
def good(good_draft: Path) -> Evidence:
    return read_evidence(str(good_draft), key="flight_id")
