"""What a request may cost: deadlines, drills and budgets of one worker, and what survives it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.inference.drill import Drill, stop_drill, write_drill
from flightdeck.inference.modes import Mode
from flightdeck.inference.surface_policy import AdmissionSettings, read_surface_policies
from serving.errors import RequestRefused
from serving.limits import Limits
from serving.parts import Parts
from serving.slots import Slot
from serving.spent import SpentFile
from serving.warm_up import warm_up
from serving.work import Reply
from tests.serving.worker import gathered, worker
from tests.serving.world import World, ask

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)


def limits(folder: Path, at: datetime = NOON, budget: float | None = 10.0, n_workers: int = 1) -> Limits:
    policies = read_surface_policies(environment={})
    settings = AdmissionSettings(turn_ms=5, alone_ms=40, daily_budget=budget)
    return Limits(
        policies, settings, drill=folder / "drill.json", spent=SpentFile(folder / "state", n_workers),
        clock=VirtualClock(at), n_workers=n_workers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "ms"),
    [
        (None, 300), (b"500", 500), (b" 500 ", 500), (b"0", 20), (b"-1", 20), (b"1e18", 2000), (b"1e999", 2000),
        (b"99.5", 99.5), (b"soon", 300), (b"nan", 300), (b"inf", 300), (b"", 300), (b"1 0", 300), (b"\xd9\xa1", 300),
        (b"1" * 33, 300), (b"\x00", 300),
    ],
)  # fmt: skip
def test_a_deadline_header_in_any_form_is_clamped_or_ignored(tmp_path: Path, header: bytes | None, ms: float) -> None:
    assert limits(tmp_path).deadline_s("search", 1000.0, header) == pytest.approx(1000.0 + ms / 1e3)


def test_a_drill_appears_covers_its_surface_and_ends_by_itself_or_by_hand(tmp_path: Path) -> None:
    found = limits(tmp_path)
    assert found.highest("search") == (Mode.MODEL, "")
    write_drill(tmp_path / "drill.json", Drill(Mode.RULES, NOON + timedelta(seconds=60), "search"))
    assert found.highest("search") == (Mode.MODEL, ""), "seen at the next look"
    found.look()
    assert (found.highest("search"), found.highest("alerts")) == ((Mode.RULES, "drill"), (Mode.MODEL, ""))
    found._clock = VirtualClock(NOON + timedelta(seconds=61))
    found.look()
    assert found.highest("search") == (Mode.MODEL, "")
    write_drill(tmp_path / "drill.json", Drill(Mode.FALLBACK, NOON + timedelta(seconds=300)))
    found.look()
    assert found.highest("alerts") == (Mode.FALLBACK, "drill")
    stop_drill(tmp_path / "drill.json")
    found.look()
    assert found.highest("alerts") == (Mode.MODEL, "")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"mode": "model"}', b"\x00" * 100])
def test_a_damaged_drill_or_budget_file_is_as_if_it_were_not_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "drill.json").write_bytes(content)
    (tmp_path / "state" / "spent-0.json").write_bytes(content)
    found = limits(tmp_path)
    assert found.drill is None
    assert found.highest("search") == (Mode.MODEL, "")
    found.charge({"search": 1}, 20.0)
    found.close()
    assert limits(tmp_path).highest("search") == (Mode.FALLBACK, "budget")


def test_an_overspent_budget_moves_search_first_survives_a_restart_and_ends_with_the_day(tmp_path: Path) -> None:
    found = limits(tmp_path)
    shares = found.charge({"search": 3, "alerts": 1}, 10.2)
    assert shares == {"search": pytest.approx(7.65), "alerts": pytest.approx(2.55)}
    found.look()
    assert found.over_budget == {"search": True, "itinerary": False, "alerts": False}
    assert (found.highest("search"), found.highest("alerts")) == ((Mode.FALLBACK, "budget"), (Mode.MODEL, ""))
    found.close()
    tomorrow = limits(tmp_path, NOON + timedelta(hours=12))
    assert tomorrow.highest("search") == (Mode.MODEL, "")
    tomorrow._spent.release()
    again = limits(tmp_path)
    assert again.highest("search") == (Mode.FALLBACK, "budget")
    again._clock = VirtualClock(NOON - timedelta(hours=13))
    again.look()
    assert again.highest("search") == (Mode.FALLBACK, "budget"), "a clock that is put back brings no budget back"


@pytest.fixture
def parts(live_world: World) -> Iterator[Parts]:
    with worker(live_world) as found:
        yield found


def test_what_limits_say_is_on_the_answer(parts: Parts) -> None:
    warm_up(parts.service, parts.scheduler, VirtualClock(NOON))
    parts.limits._over["search"] = "budget of all: spent"
    found = gathered(parts, [ask(surface="search"), ask(surface="alerts")], b"2000")
    modes = [(reply.mode, b'"champion:budget"' in reply.body) for reply in found if isinstance(reply, Reply)]
    assert modes == [("fallback", True), ("model", False)]
    parts.limits._drill = Drill(Mode.REFUSED, NOON + timedelta(seconds=60), "search")
    (refused,) = gathered(parts, [ask(surface="search")])
    assert isinstance(refused, RequestRefused)
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "drill", "1")


def test_warming_up_asks_every_rung_and_leaves_no_trace(parts: Parts) -> None:
    written = parts.log.n_written
    assert not parts.scheduler.costs[Mode.RULES].is_known
    warm_up(parts.service, parts.scheduler, VirtualClock(NOON))
    assert all(parts.scheduler.costs[mode].is_known for mode in (Mode.MODEL, Mode.FALLBACK, Mode.RULES))
    assert parts.log.n_written == written
    shown = parts.metrics.render().decode()
    assert "flightdeck_predictions_total{" not in shown
    assert "flightdeck_requests_total{" not in shown


def test_slots_are_the_lowest_that_nobody_holds(tmp_path: Path) -> None:
    first, second, third = Slot(tmp_path), Slot(tmp_path), Slot(tmp_path)
    assert [slot.number for slot in (first, second, third)] == [0, 1, 2]
    second.release()
    second.release()
    assert Slot(tmp_path).number == 1
    first.release()
    third.release()


def test_a_rolling_restart_forgets_nothing_that_was_spent(tmp_path: Path) -> None:
    n_workers = 3
    workers = [limits(tmp_path, n_workers=n_workers) for _ in range(n_workers)]
    for seconds, one in enumerate(workers, 1):
        one.charge({"search": 1}, float(seconds))
    for _ in range(2):
        for place, old in enumerate(workers):
            successor = limits(tmp_path, n_workers=n_workers)
            successor.charge({"search": 1}, 10.0)
            successor.look()
            old.close()
            successor.look()
            successor.save()
            workers[place] = successor
    spent = [one._budget.saved()["spent"]["search"] for one in workers]
    assert spent == [21.0, 22.0, 23.0]
    assert sorted(path.name for path in (tmp_path / "state").glob("*.json")) == [f"spent-{n}.json" for n in range(3)]
    for one in workers:
        one.close()
    assert [limits(tmp_path, n_workers=n_workers)._budget.saved()["spent"]["search"] for _ in workers] == spent


def test_a_second_service_keeps_numbers_of_its_own_until_the_first_has_gone(tmp_path: Path) -> None:
    first, second = limits(tmp_path), limits(tmp_path)
    first.charge({"search": 1}, 1.0)
    second.charge({"search": 1}, 2.0)
    second.look()
    second.save()
    assert {path.name for path in (tmp_path / "state").glob("*.json")} == {"spent-1.json"}
    first.close()
    second.look()
    second.close()
    assert [path.name for path in (tmp_path / "state").glob("*.json")] == ["spent-0.json"]
    assert limits(tmp_path)._budget.saved()["spent"]["search"] == 3.0
