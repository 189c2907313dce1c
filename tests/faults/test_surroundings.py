"""What the service stands on breaks: registry, ledger, disk, clock, configuration. It goes on answering.

Expected of each is the name of its test; docs/faults.md has the table.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flightdeck.core.clock import Clock, to_us
from serving.parts import Parts
from serving.work import Question
from tests.serving.process import JSON_HEADERS, serving
from tests.serving.worker import answers, question, worker
from tests.serving.world import World, ask


def test_no_registry_and_no_network_is_needed_to_answer_and_to_roll_back(world: World) -> None:
    """Fault 14, and G4: MLflow is down."""
    world.feed_store()
    former, live = world.release(world.seal(seed=1)), world.release(world.seal(seed=2))
    dead = "http://127.0.0.1:9"
    with serving(world.layout.root, variables={"MLFLOW_TRACKING_URI": dead, "MLFLOW_REGISTRY_URI": dead}) as service:
        service.wait_for_version(live)
        world.roll_back(live, former)
        service.wait_for_version(former)
        assert service.predict(ask()).json()["predictions"][0]["model_version"] == former


def test_a_model_file_that_is_half_written_is_refused_and_served_once_it_is_whole(world: World) -> None:
    """Fault 8."""
    world.feed_store()
    first = world.release(world.seal(seed=1))
    bundle = world.seal(seed=2)
    path = bundle.path / "model.onnx"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[: len(whole) // 2])
    with serving(world.layout.root) as service:
        second = world.release(bundle)
        service.wait_until(lambda: bool(service.get("/readyz").json()["refused"]), "the refusal")
        assert service.predict(ask()).json()["predictions"][0]["model_version"] == first
        path.write_bytes(whole)
        service.wait_for_version(second)
        assert service.predict(ask()).json()["predictions"][0]["model_version"] == second


def test_a_ledger_that_cannot_be_read_changes_nothing_and_is_followed_again(world: World) -> None:
    """Faults 26 and 29: the last good state is kept."""
    world.feed_store()
    first = world.release(world.seal(seed=1))
    with serving(world.layout.root) as service:
        service.wait_for_version(first)
        ledger = world.layout.ledger
        aside = ledger.with_name("aside")
        whole = ledger.read_bytes()
        ledger.rename(aside)
        ledger.write_bytes(b"not a database" * 100)
        service.wait_until(lambda: service.get("/readyz").json()["ledger"] != "ok", "the problem")
        reply = service.predict(ask())
        assert (reply.status, reply.json()["predictions"][0]["mode"]) == (200, "model")
        assert service.get("/readyz").status == 200
        ledger.unlink()
        aside.rename(ledger)
        assert ledger.read_bytes() == whole
        service.wait_until(lambda: service.get("/readyz").json()["ledger"] == "ok", "the ledger")
        second = world.release(world.seal(seed=2))
        service.wait_for_version(second)


def test_a_disk_that_does_not_flush_costs_a_segment_and_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 18: a segment whose flush failed is never written to again."""
    world.feed_store()
    world.release(world.seal())

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with worker(world) as parts:
        answers(parts, [question(ask(2))])
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", fail)
            parts.log.sync()
        answers(parts, [question(ask(3))])
        assert (parts.log.n_written, parts.log.n_dropped) == (5, 0)
    assert len(list(world.layout.prediction_log.glob("*.frames"))) == 2
    assert len(world.records()) == 5


class JumpingClock:
    """A wall clock that can be set."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        """Return what it shows."""
        return self.at


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=-400)])
def test_a_wall_clock_that_jumps_changes_no_answer_and_no_duration(world: World, jump: timedelta) -> None:
    """Fault 19: answers depend on the time of the question, durations on a clock that only runs forward."""
    world.feed_store()
    world.release(world.seal())
    clock = JumpingClock(datetime(2026, 1, 1, tzinfo=UTC))
    with worker(world, clock=clock) as parts:
        before = _ask(parts)
        clock.at += jump
        parts.limits.look()
        assert _ask(parts) == before
        assert parts.limits.highest("search")[1] == ""
    records = world.records()
    assert [record["logged_at"] for record in records] == [datetime(2026, 1, 1, tzinfo=UTC), clock.at]
    assert all(0 <= record["latency_ms"] < 60_000 for record in records)


def test_a_clock_ahead_of_the_store_does_not_make_stale_features_look_fresh(world: World) -> None:
    """Fault 19 and G14, on the service's own clock."""
    world.feed_store()
    world.release(world.seal())
    clock: Clock = JumpingClock(datetime(2013, 9, 12, 12, tzinfo=UTC))
    with worker(world, clock=clock) as parts:
        for minutes, why in ((0, None), (10, "features_late"), (24 * 60, "features_stale"), (-60, "store_ahead")):
            at = datetime(2013, 9, 12, 12, tzinfo=UTC) + timedelta(minutes=minutes)
            asked = question(ask())
            (answer,) = answers(parts, [Question(asked.ask, "request-1", to_us(at), asked.arrived_s)])
            reason = answer["predictions"][0]["reason"]
            assert (reason is None) if why is None else (why in reason), (minutes, reason)


def test_what_clients_send_makes_no_label_and_no_line(world: World) -> None:
    """Fault 28 and bad input 27: names of a million users, newlines and control characters."""
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root) as service:
        n_series = []
        for n in range(40):
            body = ask(unit_id=f"user-{n}-\u202e\u2028=cmd", carrier=f"Z{n % 10}", origin="XY" + chr(65 + n % 26))
            headers = {**JSON_HEADERS, "X-Request-ID": f"user-{n}=cmd", "X-Surface": f"user-{n}"}
            assert service.predict(body, headers).status == 200
            n_series.append(len(service.get("/metrics").content.splitlines()))
        assert n_series[-1] == n_series[20]
        text = service.get("/metrics").content.decode()
        assert "user-" not in text
        assert "XYA" not in text
        service.stop()
        assert "user-" not in service.log.read_text("utf-8")


def _ask(parts: Parts) -> Any:
    (answer,) = answers(parts, [question(ask())])
    return json.loads(json.dumps(answer))
