"""Each released bundle is audited by its own graph; one that cannot be read is named and left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flightdeck.inference import bundle as bundles
from flightdeck.monitoring.served_models import read_served_models
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEWS
from tests.flightdeck.monitoring.samples import CLOCK, seal_champion
from tests.graphs import feature_list, joined, request_rows, view_rows, weighted_sum

ROWS = pd.DataFrame({"a": [1.0], "probability": [0.5]})
GRAPH = joined(weighted_sum([0.0] * len(NUMERIC)), NUMERIC, VIEWS)


def seal(root: Path) -> str:
    return seal_champion(root, feature_list(), ROWS, ROWS, version=4, model=GRAPH)


def paths(root: Path) -> tuple[Path, Path]:
    return root / "06_models" / "ledger.sqlite", root / "06_models" / "bundles"


def test_a_released_bundle_reads_by_its_own_declarations_and_graph(tmp_path: Path) -> None:
    digest = seal(tmp_path)
    found = read_served_models(*paths(tmp_path), CLOCK)
    assert list(found) == [digest]
    model = found[digest]
    assert (model.numeric, model.views) == (NUMERIC, VIEWS)
    request, views = request_rows(5), view_rows(5)
    read = model.read(request, views)
    assert read.shape == (5, len(NUMERIC)) and read.dtype == np.float32
    np.testing.assert_array_equal(read[:, NUMERIC.index("distance_miles")], request["distance_miles"])


def test_nothing_released_gives_no_model(tmp_path: Path) -> None:
    assert read_served_models(*paths(tmp_path), CLOCK) == {}


@pytest.mark.parametrize("name", ["features.json", "model.onnx", bundles.MANIFEST])
def test_a_damaged_bundle_is_skipped_and_noted(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = paths(tmp_path)[1] / seal(tmp_path)[:16] / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert read_served_models(*paths(tmp_path), CLOCK) == {}
    assert "answers of version 4 are not audited" in caplog.text


def test_a_bundle_of_the_old_format_is_skipped_and_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = seal(tmp_path)
    monkeypatch.setattr(bundles, "FORMAT", 3)
    assert digest not in read_served_models(*paths(tmp_path), CLOCK)
    assert "format 2" in caplog.text


def test_a_folder_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    seal(tmp_path)
    paths(tmp_path)[1].rename(tmp_path / "elsewhere")
    assert read_served_models(*paths(tmp_path), CLOCK) == {}
