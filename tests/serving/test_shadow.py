"""A shadow scores a copy and touches nobody: not the answers, not their log, not who waits."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flightdeck.inference.onnx_model import Scores
from flightdeck.release.route_edits import set_shadow
from serving.parts import Parts
from serving.shadow import DROPPED, FAILED, MAX_ITEMS, SCORED
from serving.work import Reply
from tests.predictions import read_records
from tests.redis_server import wait_for
from tests.serving.worker import answers, gathered, question, worker
from tests.serving.world import World, ask, broken_model


def shadowed(root: Path, **sealed: Any) -> World:
    world = World(root)
    world.feed_store()
    world.release(world.seal(seed=1))
    version = world.stage(world.seal(**sealed))
    world.route(lambda state: set_shadow(state, version, 1.0))
    return world


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with worker(shadowed(tmp_path_factory.mktemp("shadow"), seed=2)) as found:
        yield found


def fates(parts: Parts, n_items: int) -> dict[str, int]:
    """Wait until `n_items` copies have met their fate; return how many items met which."""
    found: dict[str, int] = {}

    def count() -> bool:
        gathered(parts, [ask()], None)  # counts are taken over with the next batch
        shown = parts.metrics.render().decode()
        found.clear()
        for fate in (SCORED, DROPPED, FAILED):
            line = next((one for one in shown.splitlines() if f'fate="{fate}"' in one and "_total" in one), " 0")
            found[fate] = int(float(line.rpartition(" ")[2]))
        return sum(found.values()) >= n_items

    wait_for(count, "the shadow")
    return found


def test_predictions_of_a_shadow_are_in_its_own_log_and_change_no_answer(parts: Parts, tmp_path: Path) -> None:
    bodies = [ask(3, unit_id=f"unit-{n}", surface=("search", "alerts")[n % 2]) for n in range(8)]
    world = World(tmp_path)
    world.feed_store()
    world.release(world.seal(seed=1))
    with worker(world) as plain:
        expected = [json.loads(reply.body) for reply in gathered(plain, bodies) if isinstance(reply, Reply)]
    found = [json.loads(reply.body) for reply in gathered(parts, bodies) if isinstance(reply, Reply)]
    assert found == expected
    assert len(found) == 8
    fates(parts, 24)
    records = read_records(parts.log.folder)
    assert {record["arm"] for record in records} == {"champion"}
    assert {record["model_version"] for record in records} == {"1"}
    shadow = [record for record in read_records(parts.shadow_log.folder) if record["request_id"] != "request-000"]
    mine = [record for record in shadow if record["unit_id"] != "unit-1" or record["item"]]
    release = parts.watch.live.release(2)
    assert {(r["arm"], r["mode"], r["model_version"], r["bundle_digest"]) for r in mine} == {
        ("shadow", "shadow", "2", release.digest)
    }
    first = next(record for record in mine if record["request_id"] == "request-003")
    work = parts.service.compute([question(bodies[3])])
    alone = work.batch.score_model(release, np.arange(3))
    assert first["probability"] == alone.probability[0]
    np.testing.assert_array_equal(np.array(first["features"], np.float32), alone.numeric[0])
    assert [r["item"] for r in mine if r["request_id"] == "request-005"] == [0, 1, 2]
    assert [r["flight_id"] for r in mine if r["request_id"] == "request-005"] == [
        item["flight_id"] for item in found[5]["predictions"]
    ]


def _raise(*_: Any) -> Scores:
    raise ArithmeticError("a defect of the shadow")


def _too_few(*_: Any) -> Scores:
    return Scores(np.zeros(0), np.zeros((0, 0), np.float32))


@pytest.mark.parametrize("fault", [_raise, _too_few])
def test_a_shadow_that_fails_is_counted_and_its_thread_goes_on(
    parts: Parts, fault: Callable[..., Scores], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = parts.watch.live.release(2)
    model = release._model
    before = fates(parts, 0)
    try:
        object.__setattr__(release, "_model", _Model(fault))
        replies = gathered(parts, [ask(2, unit_id=f"unit-{n}") for n in range(3)])
        assert [type(reply) for reply in replies] == [Reply] * 3
        wait_for(lambda: fates(parts, 0)[FAILED] - before[FAILED] >= 6, "the failures")
    finally:
        object.__setattr__(release, "_model", model)
    n_scored = fates(parts, 0)[SCORED]
    wait_for(lambda: fates(parts, 0)[SCORED] > n_scored, "a shadow that scores again")


def test_a_shadow_that_hangs_fills_a_bounded_queue_and_the_rest_is_dropped(tmp_path: Path) -> None:
    with worker(shadowed(tmp_path, model=broken_model("hangs"))) as parts:
        bodies = [ask(500, unit_id=f"unit-{n}") for n in range(9)]
        modes = {
            item["mode"]
            for body in bodies
            for answer in answers(parts, [question(body)])
            for item in answer["predictions"]
        }
        assert modes == {"model"}
        for body in bodies:
            (reply,) = gathered(parts, [body], b"2000")
            assert isinstance(reply, Reply)
            assert parts.batcher._shadow._n_items <= MAX_ITEMS
        found = fates(parts, 9 * 500)
        assert found[SCORED] == 0
        assert found[DROPPED] >= 9 * 500 - 2 * MAX_ITEMS
        logged = read_records(parts.shadow_log.folder)
        assert {(one["probability"], one["reason"]) for one in logged} <= {(None, "shadow:raised")}, (
            "ended, and said so"
        )


def test_a_worker_that_ends_leaves_no_shadow_at_work_and_counts_what_it_gave_up(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with worker(shadowed(tmp_path, model=broken_model("hangs"))) as parts:
        for n in range(4):
            gathered(parts, [ask(100, unit_id=f"unit-{n}")], b"2000")
        assert [thread.name for thread in set(threading.enumerate()) - before if thread.name == "shadow"] == ["shadow"]
    assert [thread.name for thread in set(threading.enumerate()) - before if thread.name == "shadow"] == []
    shown = parts.metrics.render().decode()
    assert (
        sum(int(float(n)) for n in re.findall(r'flightdeck_shadow_items_total\{fate="\w+",version="2"\} (\S+)', shown))
        == 400
    )


def test_a_store_that_is_down_costs_the_shadow_its_items_and_no_answer(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fates(parts, 0)
    with monkeypatch.context() as down:
        down.setattr(parts.features, "_open", _no_store)
        parts.features._readers.clear()
        (reply,) = gathered(parts, [ask(4)])
        assert isinstance(reply, Reply)
        assert reply.mode == "fallback"
    wait_for(lambda: fates(parts, 0)[FAILED] - before[FAILED] >= 4, "the failures")


def _no_store() -> Any:
    raise OSError("the store is down")


class _Model:
    def __init__(self, predict: Callable[..., Scores]) -> None:
        self.predict = predict
