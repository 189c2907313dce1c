"""Releases of the trained model while a real day is asked: each candidate ends where it should, and no request fails.

The champion is the golden path's. A candidate trained again with fewer trees goes live by itself. The others are the
champion made ill in one way: what their test set shows is stopped at the gate, and what is sealed around the gate is
stopped by what it serves: in shadow in tier medium, as a canary in tier low.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flightdeck.core.clock import SystemClock
from flightdeck.gates.assessment import assess
from flightdeck.gates.verdict import Verdict
from flightdeck.inference.bundle import Bundle
from flightdeck.release.registry import Registry
from pipelines.features.model_input import NUMERIC
from pipelines.training.exporting import score_inputs
from tests.e2e.golden import golden_house
from tests.e2e.house import House
from tests.e2e.town import Town, approve_and_promote, controller
from tests.serving.process import serving
from tests.serving.world import World
from tests.sick_models import not_finite, scaled, slowed

pytestmark = pytest.mark.slow
DAY = "2013-09-12"
QUALITY = ("coverage", "ranking", "leakage", "calibration", "baselines", "champion", "segments")
N_REQUESTS = 18_000  # until the afternoon
N_BEFORE_DAWN = 2_500  # from then on somebody asks all the time
FEWER_TREES = "training.seed=8,training.challenger.max_iter=120,release.tier=low"
ILL: dict[str, Callable[[bytes], bytes]] = {
    "wrong scale": lambda model: scaled(model, NUMERIC, "aircraft_turnaround_min", 1 / 60),  # hours for minutes
    "slow": slowed,
    "nan": lambda model: not_finite(model, above=0.4),
}


class Flights(World):
    """The golden path's data root; what is sealed in it is the golden draft with another model."""

    def __init__(self, house: House) -> None:
        super().__init__(house.layout.root)
        self.golden = house.layout.root / "golden-draft"
        shutil.copytree(self.layout.draft_bundle, self.golden)

    @property
    def model(self) -> bytes:
        """The champion's model."""
        return (self.golden / "model.onnx").read_bytes()

    def seal(self, *, model: bytes | None = None, **_: Any) -> Bundle:
        shutil.rmtree(self.layout.draft_bundle, ignore_errors=True)
        shutil.copytree(self.golden, self.layout.draft_bundle)
        (self.layout.draft_bundle / "model.onnx").write_bytes(model or self.model)
        bundle = self.seal_draft()
        Registry(self.layout.mlflow_uri, "flight-delay").register(bundle)
        return bundle


class Day(threading.Thread):
    """A real day, replayed by the command that people use."""

    def __init__(self, house: House, port: int) -> None:
        super().__init__()
        self._house, self._port, self.output = house, port, ""

    def run(self) -> None:
        options = ("--day", DAY, "--max-requests", str(N_REQUESTS), "--url", f"http://127.0.0.1:{self._port}")
        self.output = self._house.kedro("replay", *options)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return golden_house(tmp_path_factory)


@pytest.fixture(scope="module")
def flights(house: House) -> Flights:
    """Return a house with champion 1 and candidate 2, which the pipeline has just made and its gate let pass."""
    world = Flights(house)
    approve_and_promote(world, 1, to="prod")
    house.kedro("run", "--pipelines", "training,evaluation,release", "--params", FEWER_TREES)
    return world


@pytest.fixture(scope="module")
def town(house: House, flights: Flights) -> Iterator[Town]:
    """A town where people ask about a day while versions come; at the end nobody was left without an answer."""
    with serving(house.layout.root, workers=2) as service, controller(house.layout.root):
        service.wait_for_version(1)
        day = Day(house, service.port)
        day.start()
        service.wait_until(lambda: service.metric("flightdeck_requests_total") > N_BEFORE_DAWN, "the morning")
        yield Town(flights, service)
        assert day.is_alive(), "all of it happened while people asked"
        day.join()
    report = house.read(house.layout.replay_report)
    assert (report["n_requests"], report["n_failed"], report["n_retries"]) == (N_REQUESTS, 0, 0), day.output
    assert report["by_mode"] == {"model": report["n_items"]}
    arms: dict[str, set[str]] = {}
    for one in flights.records():
        arms.setdefault(one["request_id"], set()).add(one["arm"])
    assert {len(found) for found in arms.values()} == {1}, "the items of one answer have one arm"


@pytest.mark.parametrize(
    ("ill", "stopped_by"), [("wrong scale", "ece"), ("slow", None), ("nan", "invalid_probabilities")]
)
def test_the_gate_stops_what_the_test_set_shows(
    flights: Flights, tmp_path: Path, ill: str, stopped_by: str | None
) -> None:
    """A model that is slow says the same: its time is no reason for the gate of tier medium, only for a shadow."""
    verdict = judged(flights, ILL[ill](flights.model), tmp_path / "draft")
    assert verdict.passed is (stopped_by is None), verdict.failed
    assert stopped_by is None or stopped_by in verdict.failed


def test_a_version_with_fewer_trees_goes_live_by_itself(town: Town) -> None:
    approve_and_promote(town.world, 2, to="canary")
    assert town.until_over(2) == "prod"
    assert town.last("promoted", 2).actor == "controller"
    assert town.last("judged", 2).detail["n_requests"] >= 300
    town.service.wait_for_version(2)


@pytest.mark.parametrize(("ill", "metric"), [("wrong scale", "predictions"), ("slow", "latency"), ("nan", "errors")])
def test_an_ill_canary_is_taken_out(town: Town, flights: Flights, ill: str, metric: str) -> None:
    champion = town.state.champion
    version = town.enter(ILL[ill](flights.model), "low", "canary")
    assert town.until_over(version) == "rolled_back"
    out = town.last("rolled_back", version)
    assert (out.actor, town.state.champion) == ("controller", champion)
    assert out.detail["evidence"]["metrics"][metric]["outcome"] == "fail", out.detail["reason"]
    town.service.wait_until(lambda: ("canary", version) not in town.service.versions(), "the canary to leave")
    if ill == "nan":
        stood_in = [one for one in town.requests_of(version) if "canary:not_finite" in (one["reason"] or "")]
        assert {(one["mode"], one["model_version"]) for one in stood_in} == {("model", str(champion))}


@pytest.mark.parametrize(
    ("ill", "said"), [("wrong scale", "mean prediction"), ("slow", "an item costs it"), ("nan", "of its items failed")]
)
def test_an_ill_shadow_is_frozen_before_it_decides_for_anybody(
    town: Town, flights: Flights, ill: str, said: str
) -> None:
    version = town.enter(ILL[ill](flights.model), "medium", "shadow")
    assert town.until_over(version) == "frozen"
    assert said in town.last("frozen", version).detail["reason"]
    assert town.requests_of(version) == []


def judged(flights: Flights, model: bytes, draft: Path) -> Verdict:
    """Return what the gate says of a draft that training would have made of this model, on every tenth test row."""
    shutil.copytree(flights.golden, draft)
    (draft / "model.onnx").write_bytes(model)
    sample = pd.read_parquet(draft / "reference/inputs.parquet")
    sample.assign(probability=score_inputs(model, sample).probability).to_parquet(draft / "reference/inputs.parquet")
    rows = pd.read_parquet(draft / "reference/predictions.parquet")
    inputs = pd.read_parquet(flights.layout.root / "05_model_input/model_inputs.parquet")
    inputs = inputs[inputs["flight_id"].str[:10] > "2013-07-31"].reset_index(drop=True)
    assert inputs["flight_id"].equals(rows["flight_id"]), "the test set, row by row"
    rows, inputs = rows[::10], inputs[::10]
    rows.assign(probability=score_inputs(model, inputs).probability).to_parquet(draft / "reference/predictions.parquet")
    found = assess(
        str(draft),
        tier="medium",
        thresholds={},
        gates=QUALITY,
        further={},
        data_versions={},
        key="flight_id",
        segments=("origin", "carrier"),
    )
    return found.verdict(SystemClock())
