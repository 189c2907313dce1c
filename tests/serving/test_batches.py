"""A batch answers each request as it would have been answered alone, and the log says what was answered."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightdeck.inference.modes import Mode
from flightdeck.inference.onnx_model import Scores
from flightdeck.release.route_edits import add_experiment, add_segment
from pipelines.features.model_input import NUMERIC
from serving.parts import Parts
from serving.work import Reply
from tests.predictions import read_records
from tests.serving.worker import answers, question, worker
from tests.serving.world import World, ask, broken_model

SURFACES = ("search", "itinerary", "alerts")
TIMES = ("2013-09-12T12:00:00Z", "2013-09-12T12:20:00Z", "2013-09-12T08:00:00Z", "2014-09-12T12:00:00Z")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a champion, a canary that gives NaN to every real flight, an arm that gives 2, and a segment."""
    world = World(tmp_path_factory.mktemp("mixed"))
    world.feed_store()
    local, champion = world.release(world.seal(seed=4)), world.release(world.seal(seed=1))
    world.release(world.seal(model=broken_model("nan")), share=0.4)
    arm = world.stage(world.seal(model=broken_model("2")))
    world.route(
        lambda state: add_segment(state, "JFK", {"origin": ["JFK"]}, champion=local),
        lambda state: add_experiment(state, "prices", [("odd", arm, 0.3)]),
    )
    assert (local, champion) == (1, 2)
    return world


@pytest.fixture(scope="module")
def parts(mixed: World) -> Iterator[Parts]:
    with worker(mixed) as found:
        yield found


FLIGHTS = st.fixed_dictionaries(
    {
        "carrier": st.sampled_from(["UA", "DL", "ZZ"]),
        "origin": st.sampled_from(["EWR", "JFK", "LAX"]),
        "dest": st.sampled_from(["IAH", "MIA", "XYZ"]),
        "flight_number": st.integers(1, 9999),
        "distance_miles": st.integers(1, 12_500),
        "tailnum": st.sampled_from(["N1", "N2", None]),
    }
)


@st.composite
def requests(draw: st.DrawFn) -> list[Any]:
    bodies = []
    for _ in range(draw(st.integers(1, 6))):
        body = ask(
            1,
            unit_id=draw(st.sampled_from([f"unit-{n}" for n in range(12)])),
            surface=draw(st.sampled_from(SURFACES)),
            at=draw(st.sampled_from(TIMES)),
        )
        body["flights"] = [
            {**body["flights"][0], **flight} for flight in draw(st.lists(FLIGHTS, min_size=1, max_size=5))
        ]
        bodies.append(body)
    return bodies


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=requests(), mode=st.sampled_from([Mode.MODEL, Mode.MODEL, Mode.FALLBACK, Mode.RULES]))
def test_a_batch_answers_bit_by_bit_what_each_request_is_answered_alone(
    parts: Parts, bodies: list[Any], mode: Mode
) -> None:
    questions = [question(body, f"request-{place:03d}") for place, body in enumerate(bodies)]
    together = answers(parts, questions, mode, "drill" if mode else "")
    alone = [answers(parts, [one], mode, "drill" if mode else "")[0] for one in questions]
    assert together == alone
    for body, answer in zip(bodies, together, strict=True):
        assert len(answer["predictions"]) == len(body["flights"])
        assert answer["surface"] == body["surface"]


def test_the_mixed_world_meets_every_rung_arm_and_segment(parts: Parts) -> None:
    bodies = [ask(3, unit_id=f"unit-{n}", origin=("EWR", "JFK")[n % 2], at=TIMES[n % 4]) for n in range(24)]
    items = [i for answer in answers(parts, [question(body) for body in bodies]) for i in answer["predictions"]]
    assert {item["mode"] for item in items} == {"model", "fallback"}
    assert {item["arm"] for item in items} >= {"champion", "canary", "prices:odd", "JFK/champion"}
    why = {reason for item in items for reason in (item["reason"] or "").split("; ")}
    assert why >= {"canary:not_finite", "prices/odd:out_of_range", "champion:features_stale"}
    assert all(0 <= item["probability"] <= 1 for item in items)
    failed = [item for item in items if "canary:not_finite" in (item["reason"] or "")]
    assert {item["model_version"] for item in failed} == {2}, "answered by the champion of the same request"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=requests())
def test_the_log_says_of_every_item_what_was_answered(parts: Parts, bodies: list[Any]) -> None:
    n_before, written_before = len(read_records(parts.log.folder)), parts.log.n_written
    questions = [question(body, f"request-{place:03d}") for place, body in enumerate(bodies)]
    found = answers(parts, questions)
    records = read_records(parts.log.folder)[n_before:]
    assert parts.log.n_written - written_before == len(records) == sum(len(body["flights"]) for body in bodies)
    digests = {release.version: release.digest for release in parts.watch.live.releases.values()}
    at = iter(records)
    for body, one, answer in zip(bodies, questions, found, strict=True):
        for place, item in enumerate(answer["predictions"]):
            record = next(at)
            assert record["request_id"] == answer["request_id"]
            assert (record["item"], record["surface"]) == (place, body["surface"])
            assert (record["unit_id"], record["request_us"]) == (body["unit_id"], one.request_us)
            for name in ("flight_id", "mode", "reason", "arm", "decision", "feature_offset", "probability"):
                assert record[name] == item[name], name
            assert str(record["model_version"]) == str(item["model_version"])
            assert record["bundle_digest"] == digests[item["model_version"]]
            assert record["carrier"] == body["flights"][place]["carrier"]
            if item["mode"] == "model":
                assert record["features"][0] == body["flights"][place]["distance_miles"]
                assert len(record["features"]) == len(NUMERIC)


def test_served_is_written_and_sampled_out_and_dropped(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.log._sampling._rates, "search", 0.5)
    before = _log_counts(parts)
    bodies = [ask(4, unit_id=f"unit-{n}", surface=SURFACES[n % 3]) for n in range(60)]
    answers(parts, [question(body) for body in bodies[:40]])
    half = _log_counts(parts)
    assert 0 < half[1] - before[1] < 40 * 4
    with monkeypatch.context() as disk:
        disk.setattr("os.write", _disk_full)
        answers(parts, [question(body) for body in bodies[40:]])
    after = _log_counts(parts)
    assert after[0] == half[0]
    assert after[2] > half[2]
    assert sum(after) - sum(before) == 60 * 4
    answers(parts, [question(ask(surface="alerts"))])
    assert _log_counts(parts)[0] == after[0] + 1, "it writes again"
    shown = parts.metrics.render().decode()
    for name, n in zip(("written", "sampled_out", "dropped"), _log_counts(parts), strict=True):
        assert f"flightdeck_prediction_log_{name}_total {float(n)}" in shown


def test_a_request_whose_times_break_a_rule_costs_its_neighbours_nothing_and_is_not_logged(parts: Parts) -> None:
    odd = ask(2, scheduled_departure="9999-12-31T00:00:00Z", scheduled_arrival="0001-01-01T00:00:00Z")
    good = ask(2, unit_id="unit-7")
    alone = answers(parts, [question(good)])
    n_written = parts.log.n_written
    replies = parts.service.finish(parts.service.compute([question(odd), question(good), question(odd)]))
    assert [type(reply).__name__ for reply in replies] == ["TimesBroken", "Reply", "TimesBroken"]
    assert isinstance(replies[1], Reply)
    assert [json.loads(replies[1].body)] == alone
    assert parts.log.n_written - n_written == 2


def test_what_no_rung_can_answer_is_refused_alone(parts: Parts) -> None:
    release = parts.watch.live.release(2)
    whole = {name: getattr(release, name) for name in ("_model", "_fallback", "_rules")}
    bodies = [ask(2, unit_id="unit-1", origin=origin) for origin in ("EWR", "JFK")]
    try:
        for name in whole:
            object.__setattr__(release, name, _Nothing())
        bad, good = parts.service.finish(parts.service.compute([question(body) for body in bodies]))
    finally:
        for name, way in whole.items():
            object.__setattr__(release, name, way)
    assert (getattr(bad, "status", None), getattr(bad, "code", None)) == (503, "nothing_answers")
    assert isinstance(good, Reply)
    assert {item["mode"] for item in json.loads(good.body)["predictions"]} == {"model"}


class _Nothing:
    """A model that gives the wrong number of probabilities, and rules that give infinite ones."""

    def predict(self, *_: Any) -> Scores:
        return Scores(np.zeros(0), np.zeros((0, 0), np.float32))

    def score(self, request: Any) -> Any:
        return np.full(len(request["carrier"]), np.inf)


def _log_counts(parts: Parts) -> tuple[int, int, int]:
    return parts.log.n_written, parts.log.n_sampled_out, parts.log.n_dropped


def _disk_full(*_: Any) -> int:
    raise OSError(28, "No space left on device")
