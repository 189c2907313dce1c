"""Batch scoring answers as the loaded bundle does, and shows where the nodes of this code would answer otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError, NotFoundError
from flightdeck.inference.release_bundle import load_release
from flightdeck.release.datasets import ReleasedBundlesDataset
from flightdeck.release.released import ReleasedBundles
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.inference.pipeline import create_pipeline
from serving.use_case import running_code
from tests.graphs import joined, request_rows, view_rows, weighted_sum
from tests.serving.world import World

N_ROWS = 300
SETTINGS = {"bundle": "champion", "first_day": "2013-09-12", "last_day": "2013-09-13"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def inputs() -> pd.DataFrame:
    """Return rows of four days, a quarter each."""
    days = [f"2013-09-{11 + place % 4}:UA:{place}:EWR" for place in range(N_ROWS)]
    keys = pd.DataFrame({"flight_id": days, "horizon": 15})
    return keys.join(pd.DataFrame(request_rows(N_ROWS))).join(
        pd.DataFrame(view_rows(N_ROWS), columns=list(VIEW_COLUMNS))
    )


def score(world: World, rows: pd.DataFrame, pipeline: Pipeline | None = None, **settings: Any) -> pd.DataFrame:
    catalog = DataCatalog(
        {
            "model_inputs": MemoryDataset(rows),
            "params:inference": MemoryDataset(SETTINGS | settings),
            "released_bundles": ReleasedBundlesDataset(
                ledger=str(world.layout.ledger), bundles=str(world.layout.bundles)
            ),
        }
    )
    found: dict[str, Any] = SequentialRunner().run(pipeline or create_pipeline(), catalog)
    predictions: pd.DataFrame = found["batch_predictions"].load()
    return predictions


def test_the_pipeline_answers_what_the_loaded_bundle_answers(world: World) -> None:
    bundle, rows = world.seal(), inputs()
    version = world.release(bundle)
    found = score(world, rows)
    chosen = rows[rows["flight_id"].str[:10].isin(["2013-09-12", "2013-09-13"])]
    assert found["flight_id"].tolist() == chosen["flight_id"].tolist() and len(found) == N_ROWS // 2
    assert set(found["model_version"]) == {version} and set(found["bundle_digest"]) == {bundle.digest}
    release = load_release(bundle.path, digest=bundle.digest, version=version, code=running_code())
    request = {name: chosen[name].to_numpy() for name in release.request_inputs}
    served = release.score_model(request, chosen[list(VIEW_COLUMNS)].to_numpy())
    np.testing.assert_allclose(found["probability"], served.probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["probability_by_nodes"], served.probability, rtol=0, atol=1e-6)


def test_code_that_has_moved_changes_no_answer_and_is_seen(world: World, caplog: pytest.LogCaptureFixture) -> None:
    weights = [1e-3 if name == "horizon_min" else 0.0 for name in NUMERIC]
    world.release(world.seal(model=joined(weighted_sum(weights), NUMERIC, VIEWS)))
    before = score(world, inputs())

    def lead_time(scheduled_departure_us: Any, request_us: Any) -> list[Any]:
        return [(scheduled_departure_us - request_us) / 1e6]

    wired = [step for step in create_pipeline().nodes if step.name != "lead_time"]
    moved = Pipeline([*wired, node(lead_time, ["scheduled_departure_us", "request_us"], ["horizon_min"])])
    after = score(world, inputs(), moved)
    assert after["probability"].equals(before["probability"])
    assert not after["probability_by_nodes"].equals(before["probability_by_nodes"])
    assert "otherwise than through the nodes" in caplog.text


def test_a_model_of_other_features_answers_alone(world: World) -> None:
    world.release(world.seal(views=VIEWS[:-1]))
    found = score(world, inputs())
    assert found["probability"].between(0, 1).all() and found["probability_by_nodes"].isna().all()


def test_a_bundle_is_chosen_by_name_or_number(world: World) -> None:
    first, second = world.seal(seed=1), world.seal(seed=2)
    champion, canary = world.release(first), world.release(second, share=0.5)
    released = ReleasedBundles(world.layout.ledger, world.layout.bundles, SystemClock())
    assert released.find("champion") == (champion, first) == released.find(champion)
    assert released.find("canary") == (canary, second)
    for unknown in ("champoin", 9):
        with pytest.raises(NotFoundError, match="there are champion, canary, 1, 2"):
            released.find(unknown)


def test_days_without_rows_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="it has 2013-09-11 to 2013-09-14"):
        score(world, inputs(), first_day="2014-01-01", last_day="2014-01-02")


def test_released_bundles_are_never_written_by_a_pipeline(tmp_path: Path) -> None:
    dataset = ReleasedBundlesDataset(ledger=str(tmp_path / "ledger.sqlite"), bundles=str(tmp_path / "bundles"))
    with pytest.raises(DatasetError, match="never written"):
        dataset.save("draft")  # type: ignore[arg-type]
