"""The reference comes from the verified bundle of the champion that the ledger names."""

from pathlib import Path

import pandas as pd
import pytest

from flightdeck.monitoring.champion import read_champion, read_feature_lists
from tests.flightdeck.monitoring.samples import CLOCK, seal_champion

ROWS = pd.DataFrame({"a": [1.0], "probability": [0.5]})
DAYS = pd.DataFrame({"day": ["2013-08-01"], "log_loss": [0.4]})


def paths(root: Path) -> tuple[Path, Path]:
    return root / "06_models" / "ledger.sqlite", root / "06_models" / "bundles"


def test_champion_reference(tmp_path: Path) -> None:
    digest = seal_champion(tmp_path, {"numeric": ["a"]}, ROWS, DAYS, version=4)
    found = read_champion(*paths(tmp_path), CLOCK)
    assert (found.version, found.digest, found.features) == (4, digest, {"numeric": ["a"]})
    pd.testing.assert_frame_equal(found.rows, ROWS)
    pd.testing.assert_frame_equal(found.days, DAYS)
    assert read_feature_lists(*paths(tmp_path), CLOCK) == {digest: {"numeric": ["a"]}}


def test_no_champion(tmp_path: Path) -> None:
    found = read_champion(*paths(tmp_path), CLOCK)
    assert found.version is None and found.rows.empty and found.days.empty
    assert read_feature_lists(*paths(tmp_path), CLOCK) == {}


def test_a_changed_or_lost_bundle_is_named_with_its_problem(tmp_path: Path) -> None:
    digest = seal_champion(tmp_path, {"numeric": ["a"]}, ROWS, DAYS)
    path = paths(tmp_path)[1] / digest[:16] / "reference" / "days.parquet"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = read_champion(*paths(tmp_path), CLOCK)
    assert (found.version, found.digest) == (1, digest) and "altered" in found.problem
    assert found.rows.empty and found.days.empty and not found.features
    assert list(read_feature_lists(*paths(tmp_path), CLOCK)) == [digest]
    path.parent.parent.rename(tmp_path / "elsewhere")
    assert "no manifest" in read_champion(*paths(tmp_path), CLOCK).problem


@pytest.mark.parametrize("content", [b"{", b'{"numeric": ["b"]}', b"\xff"])
def test_a_damaged_feature_list_is_skipped_and_noted(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    digest = seal_champion(tmp_path, {"numeric": ["a"]}, ROWS, DAYS, version=4)
    path = paths(tmp_path)[1] / digest[:16] / "features.json"
    path.chmod(0o644)
    path.write_bytes(content)
    assert read_feature_lists(*paths(tmp_path), CLOCK) == {}
    assert "answers of version 4 are not audited" in caplog.text
