"""From the source files to governed predictions on real data, through the commands of the README."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightdeck.core.identifiers import digest_file
from flightdeck.lineage.graph import LineageGraph, Node
from tests.e2e.golden import golden_house
from tests.e2e.house import House
from tests.serving.process import Service, serving

pytestmark = pytest.mark.slow
ADA = ("--by", "Ada Lovelace")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return golden_house(tmp_path_factory)


@pytest.fixture(scope="module")
def released(house: House) -> House:
    house.kedro("release", "approve", "1", *ADA, "--reason", "the report convinces me")
    for stage in ("staging", "canary", "prod"):
        house.kedro("release", "promote", "1", "--to", stage, *ADA)
    return house


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("tiny"))


def test_the_golden_path_ends_at_a_candidate_with_evidence(house: House) -> None:
    actions = [(record.action, record.subject) for record in house.records()]
    assert actions == [("registered", "1"), ("verdict", "1")]
    candidate = house.read(house.layout.root / "06_models" / "release_candidate.json")
    bundle = house.layout.bundles / Path(candidate["path"]).name
    verdict, training = house.read(bundle / "evaluation/verdict.json"), house.read(bundle / "training.json")
    assert verdict["passed"] and verdict["subject"] == candidate["content_digest"]
    assert {"seed", "data_versions", "views", "nodes", "git_commit", "lock_digest"} <= set(training)
    metrics = training["metrics"]
    assert 0.77 <= metrics["auc_15"] <= 0.85 and 0.74 <= metrics["auc_120"] <= 0.85
    assert max(metrics["ece"], metrics["ece_15"], metrics["ece_120"]) <= 0.02
    assert training["onnx_max_difference"] <= 1e-5
    counts = house.read(house.layout.ingestion_report)["sources"]
    assert all(source["n_rows"] == source["n_accepted"] + source["n_quarantined"] for source in counts.values())
    assert (counts["flights"]["n_rows"], counts["weather"]["n_quarantined"]) == (336_776, 1)


def test_an_unapproved_candidate_goes_no_further_than_staging(house: House) -> None:
    if any(record.action == "approved" for record in house.records()):
        pytest.skip("already approved by another test of this module")
    refused = house.kedro("release", "promote", "1", "--to", "prod", *ADA, exit_code=1)
    assert "Traceback" not in refused and "staging" in refused


def test_lineage_goes_from_sources_to_the_stage(released: House) -> None:
    shown = released.kedro("lineage", "show", "1")
    for step in ("flights", "departed version 0", "origin_departures", "passed", "Ada Lovelace", "prod"):
        assert step in shown
    assert "versions there: 1" in released.kedro("lineage", "show", "99", exit_code=1)


def test_the_graph_of_the_runs_ends_at_the_candidate_that_the_ledger_begins_with(released: House) -> None:
    entered = released.records()[0].detail["content_digest"]
    above = LineageGraph(released.layout.lineage).ancestors(Node("dataset", "release_candidate", entered))
    sources = {node.name: node.version for node in above if node.kind == "source"}
    counts = released.read(released.layout.ingestion_report)["sources"]
    assert sources == {name: counts[name]["sha256"] for name in ("flights", "weather", "airports")}
    assert {"departed", "scheduled"} <= {node.name for node in above if node.kind == "stream"}


class Replay(threading.Thread):
    """The replay command, running beside the test."""

    def __init__(self, house: House, url: str) -> None:
        super().__init__()
        self._house, self._url, self.output = house, url, ""

    def run(self) -> None:
        options = ("--day", "2013-09-12", "--speed", "0", "--max-requests", "4000", "--url", self._url)
        self.output = self._house.kedro("replay", *options)


def answered(service: Service) -> int:
    lines = service.get("/metrics").content.decode().splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("flightdeck_predictions_total")))


def test_a_day_survives_a_killed_service_and_its_features_are_those_of_the_log(released: House) -> None:
    with serving(released.layout.root) as service:
        replay = Replay(released, f"http://127.0.0.1:{service.port}")
        replay.start()
        while answered(service) < 800 and replay.is_alive():
            time.sleep(0.05)
        service.stop(signal.SIGKILL)
        with serving(released.layout.root, port=service.port):
            replay.join()
    report = released.read(released.layout.replay_report)
    logged = {(record["request_id"], record["item"]) for record in released.predictions()}
    assert (report["n_failed"], report["n_requests"]) == (0, 4000), replay.output
    assert len(logged) >= report["n_items"]
    assert report["by_mode"] == {"model": report["n_items"]}
    released.kedro("monitor")
    summary = released.read(released.layout.monitoring / "summary.json")
    assert summary["skew_mismatches"] == 0 < summary["skew_compared"]
    assert summary["n_labelled"] > 0


def test_deleting_the_log_names_the_command_that_builds_it(released: House, tmp_path: Path) -> None:
    moved = tmp_path / "events"
    shutil.move(released.layout.event_log, moved)
    try:
        said = released.kedro("replay", "--day", "2013-09-12", "--url", "http://127.0.0.1:9", exit_code=1)
    finally:
        shutil.move(moved, released.layout.event_log)
    assert "kedro run --pipelines ingestion" in said and "Traceback" not in said


def test_deleting_the_champion_says_how_to_go_on(released: House, tmp_path: Path) -> None:
    (bundle,) = (path for path in released.layout.bundles.iterdir() if not path.name.startswith("."))
    shutil.move(bundle, tmp_path / "bundle")
    try:
        with serving(released.layout.root) as service:
            ready = service.get("/readyz")
            assert ready.status == 503 and "rollback" in ready.json()["next_step"]
    finally:
        shutil.move(tmp_path / "bundle", bundle)
    said = released.kedro("release", "rollback", *ADA, "--reason", "try", exit_code=1)
    assert "first champion" in said and "Traceback" not in said


def test_a_gate_that_says_no_ends_with_3_and_leaves_the_ledger_alone(tiny: House) -> None:
    said = tiny.kedro("run", "--env", "test", "--config", "kedro.yml", exit_code=3)
    ending = said[-2000:]  # a notebook's kernel may log as it is taken down
    assert "n_months" in ending and "Traceback" not in ending
    assert not tiny.records()
    assert (tiny.layout.draft_bundle / "evaluation/evaluation.html").is_file()


def test_two_runs_of_the_same_inputs_give_the_same_models(tiny: House) -> None:
    files = [tiny.layout.draft_bundle / name for name in ("model.onnx", "fallback.onnx", "rules.json")]
    if not files[0].is_file():
        tiny.kedro("run", "--env", "test", "--pipelines", "ingestion,features,training")
    before = [digest_file(file) for file in files]
    tiny.kedro("run", "--env", "test", "--pipelines", "features,training")
    assert [digest_file(file) for file in files] == before


@pytest.fixture
def poisoned(tiny: House) -> Iterator[Path]:
    file = tiny.layout.raw / "flights.csv"
    if not file.exists():
        tiny.kedro("run", "--env", "test", "--pipelines", "ingestion")
    content = file.read_bytes()
    yield file
    file.write_bytes(content)


def test_poisoned_rows_end_in_quarantine_and_not_in_the_log(tiny: House, poisoned: Path) -> None:
    header, first, second, *rest = poisoned.read_text().splitlines()
    cells = first.split(",")
    bad_clock = ",".join([*cells[:4], "2575", *cells[5:]])
    future = ",".join(["2113", *second.split(",")[1:]])
    poisoned.write_text("\n".join([header, bad_clock, future, *rest, rest[0]]) + "\n")
    shutil.rmtree(tiny.layout.event_log)
    tiny.kedro("run", "--env", "test", "--pipelines", "ingestion")
    report = tiny.read(tiny.layout.ingestion_report)
    assert report["sources"]["flights"]["n_quarantined"] == 3
    assert report["streams"]["scheduled"]["n_rows"] == report["sources"]["flights"]["n_accepted"]


def test_a_renamed_column_is_a_clear_refusal(tiny: House, poisoned: Path) -> None:
    poisoned.write_text(poisoned.read_text().replace("dep_delay", "departure_delay", 1))
    said = tiny.kedro("run", "--env", "test", "--pipelines", "ingestion", exit_code=1)
    assert "'dep_delay'" in said and "departure_delay" in said and "Traceback" not in said
