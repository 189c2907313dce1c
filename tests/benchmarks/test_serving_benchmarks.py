"""What the serving benchmarks are made of: their world is served rightly, their figures are what was seen."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks import bench_overload, bench_serving, bench_swap
from benchmarks.bench_overload import Outcome, last_trouble_s, most_in_a_second, rates
from benchmarks.bench_serving import CEILING, CELLS, OURS, RATIOS, Run, plan
from benchmarks.dear_model import burning_model, dear_files, sines_for
from benchmarks.http_load import Load, stream
from benchmarks.machine import Used
from benchmarks.seen import MODES, Seen, together
from benchmarks.server_process import free_port, our_server, running
from benchmarks.serving_sides import Asked, all_sides, asked_of, write_model
from benchmarks.serving_world import COLUMNS, NOON_US, VIEW_COLUMNS, World, questions, train
from flightdeck.core.errors import FlightdeckError
from flightdeck.inference.release_bundle import load_release
from pipelines.features.model_input import CATEGORICAL
from pipelines.inference.request import request_columns
from serving.use_case import running_code
from serving.wire import decode

KEYS = {
    "serving": {
        *("rps_1", "rps_16", "rps_64", "items_per_s_50", "p95_ms_64", "ratio_mlflow", "ratio_bentoml"),
        *("ratio_litserve", "ratio_fastapi_sklearn", "ratio_ceiling", "cpu_us_per_request"),
    },
    "overload": {
        *("critical_answered_pct", "critical_p95_ms", "reject_p99_ms", "goodput_ratio", "recovery_s"),
        "max_refusals_per_s",
    },
}


def seen(at_s: list[float], latency_s: float = 0.01, status: int = 200, mode: int = 1) -> Seen:
    n = len(at_s)
    return Seen(np.array(at_s), np.full(n, latency_s), np.zeros(n), np.full(n, status), np.full(n, mode))


def cost(cpu_us: float) -> Run:
    return Run(per_s=1000.0, p95_ms=5.0, cpu_us=cpu_us, others_share=0.0, lesser_share=0.0)


def test_the_world_is_served_as_the_model_says_and_a_wrong_answer_ends_the_measurement(tmp_path: Path) -> None:
    world, model = World(tmp_path / "data"), train(n_trees=4)
    world.feed_store()
    bundle = world.seal(model.files)
    version = world.release(bundle)
    asked = asked_of(world, bundle, model, [*questions(3, 1), *questions(1, 50)])
    assert [len(rows) for rows in asked.rows] == [1, 1, 1, 50]
    assert set(asked.rows[0][0]) == set(COLUMNS)
    assert len(COLUMNS) == 25
    write_model(tmp_path / "model", model, asked.rows[0])
    ours = all_sides(world.layout.root, tmp_path / "model")[0]
    wrong = Asked(asked.questions, asked.rows, [[value + 0.01 for value in values] for values in asked.expected])
    with our_server(world.layout.root) as server:
        ours.require_right(server, asked)
        with pytest.raises(FlightdeckError, match=r"checking flightdeck"):
            ours.require_right(server, wrong)
        assert bench_swap.champion_of(server) == version
        swapped = bench_swap.swap_under_load(world, server, bench_swap.prepare(world, 2), 50.0)
        with Load(server.port, [stream("all", ours.path, ours.bodies(asked), 2)], 0.3) as load:
            answered = load.run()["all"]
    assert swapped.n_swaps == 2
    assert set(swapped.seen.status.tolist()) <= {200, 503}  # a machine that stands still for a moment refuses
    assert (swapped.seen.status == 200).any()
    n_lower = int((swapped.seen.mode != MODES.index("model")).sum())
    assert bench_swap.report(swapped.seen, swapped)["failed"] == 2 * n_lower
    assert set(answered.status.tolist()) <= {200, 503}
    assert (answered.status == 200).any()


def test_every_rung_of_the_dear_bundle_answers_and_its_rules_are_no_cheap_way_out(tmp_path: Path) -> None:
    bundle = World(tmp_path).seal(dear_files(1e-4))
    release = load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())
    columns = request_columns(decode(json.dumps(questions(1, 2)[0]).encode()).flights, NOON_US)
    views = np.zeros((2, len(VIEW_COLUMNS)))
    answers = (release.score_model(columns, views), release.score_fallback(columns))
    assert [scores.probability.tolist() for scores in answers] == [[0.5, 0.5]] * 2
    assert release.score_rules(columns).tolist() == [0.25, 0.25]
    cheap = train(n_trees=4).files
    assert len(dear_files(1e-4)["rules.json"]) > 1000 * len(cheap["rules.json"])


def test_a_burning_model_answers_every_row_and_more_time_means_more_sines() -> None:
    assert sines_for(0.01) > sines_for(0.0001) >= 1
    session = onnxruntime.InferenceSession(burning_model(3, 2), providers=["CPUExecutionProvider"])
    feed: dict[str, np.ndarray] = {name: np.full((4, 1), "?", dtype=object) for name in CATEGORICAL}
    (found,) = session.run(None, {**feed, "numeric": np.zeros((4, 3), dtype=np.float32)})
    assert found.tolist() == [[0.5, 0.5]] * 4


def test_each_round_holds_every_cell_once_in_another_order() -> None:
    order = plan([OURS, "a", "b"], 2, is_quick=False)
    n = 3 * len(CELLS)
    assert len(order) == 2 * n
    assert set(order[:n]) == set(order[n:])
    assert order[:n] != order[n:]
    quick = plan([OURS, "a"], 1, is_quick=True)
    assert sorted(quick) == sorted([*((OURS, *cell) for cell in CELLS), ("a", *bench_serving.PAIRED)])


def test_a_ratio_is_to_the_best_form_of_a_peer_and_null_without_one() -> None:
    medians = {(OURS, *cell): cost(100.0) for cell in CELLS} | {(CEILING, 1, 16): cost(20.0)}
    medians |= {("bentoml", 1, 16): cost(2000.0), ("bentoml_adaptive", 1, 16): cost(1500.0)}
    told = dict(bench_serving.report(medians))
    assert set(told) == KEYS["serving"]
    assert (told["ratio_bentoml"], told["ratio_ceiling"], told["ratio_mlflow"]) == (15.0, 0.2, None)
    assert told["items_per_s_50"] == 50_000.0
    assert len(list(bench_serving.table(medians))) == 1 + len(medians)


def test_every_side_that_a_ratio_names_is_there(tmp_path: Path) -> None:
    names = {side.name for side in all_sides(tmp_path, tmp_path)}
    assert {OURS, CEILING, *(name for pair in RATIOS.values() for name in pair)} <= names


@pytest.mark.parametrize("load", [0.5, 2.0, 12.0])
def test_the_surfaces_offer_the_load_together_and_the_critical_one_always_a_fifth(load: float) -> None:
    offered = {
        name: sum(seconds * per_s for seconds, per_s in parts) for name, parts in rates(load, 100.0, 8.0).items()
    }
    assert sum(offered.values()) == pytest.approx(load * 800)
    assert offered["alerts"] == pytest.approx(0.2 * 800)
    assert len({per_s for _, per_s in rates(load, 100.0, 8.0)["search"]}) == 2


def test_the_report_of_an_overload_is_of_the_worst_load() -> None:
    calm = {"alerts": seen([0.1, 0.2]), "itinerary": seen([0.1]), "search": seen([0.3])}
    worse = {
        "alerts": together([seen([0.1], 0.2), seen([0.5], 0.01, 503, 0)]),
        "itinerary": seen([0.1, 0.2]),
        "search": seen([0.3, 0.4, 1.2], 0.004, 503, 0),
    }
    outcomes = [Outcome(load, 2.0, 2.0, each, Used(1.0, 0.0)) for load, each in ((0.5, calm), (2.0, worse))]
    told = dict(bench_overload.report(outcomes, 1.5))
    assert set(told) == KEYS["overload"]
    assert (told["critical_answered_pct"], told["critical_p95_ms"]) == (50.0, 200.0)
    assert told["goodput_ratio"] == 0.5
    assert told["reject_p99_ms"] == pytest.approx(9.82, abs=0.1)
    assert told["max_refusals_per_s"] == 3
    assert len(list(bench_overload.table(outcomes))) == 1 + 2 * 4


def test_recovery_ends_with_the_last_window_in_trouble() -> None:
    well = seen(np.arange(10.0, 14.0, 0.01).tolist())
    late = seen([8.0, 10.6], 0.3)
    assert last_trouble_s(well, 10.0) == 0.0
    assert last_trouble_s(together([well, late]), 10.0) == 0.75
    assert most_in_a_second(seen([0.1, 0.2, 1.5])) == 2


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with (
        pytest.raises(FlightdeckError, match="starting a server") as refused,
        running(command, free_port(), tmp_path, ready="/"),
    ):
        pytest.fail("it started")
    assert "no such model" in str(refused.value.next_step)
