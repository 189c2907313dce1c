"""Labels that come later: days of traffic in real logs, outcomes a day late, and a controller that looks each day."""

import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from flightdeck.core.clock import VirtualClock, to_us
from flightdeck.inference.bundle import Bundle
from flightdeck.release import route_commands, route_edits
from flightdeck.release.ledger import Ledger
from flightdeck.release.record import Record
from flightdeck.release.rollout import label_items
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.label_check import LabelChecks, label_line
from flightdeck.release.rollout.label_items import WaitingItems
from flightdeck.release.rollout.label_period import LABEL_CHECK, label_periods
from flightdeck.release.rollout.observer import LogObserver, Logs
from flightdeck.release.rollout.tail import read_new
from flightdeck.release.state import fold
from tests import release_desk as commands
from tests.flightdeck.release.rollout.traffic import Behaviour, Traffic

DAY_S = 86_400
WINDOW_DAYS = 21


def at_random(rng: np.random.Generator) -> dict[str, float]:
    """Return a guess around the true rate."""
    return {"probability": float(rng.beta(2, 6)), "model_ms": 0.3}


def at_rate(_: np.random.Generator) -> dict[str, float]:
    """Return the true rate, which is the best that can be done here."""
    return {"probability": 0.25, "model_ms": 0.3}


def too_sure(rng: np.random.Generator) -> dict[str, float]:
    """Return a guess that is as high on average, and far too sure."""
    return {"probability": 0.98 if rng.random() < 0.25 else 0.01, "model_ms": 0.3}


@dataclass
class Outcomes:
    """One flight in four is late; it is known a day after the request, unless nothing ever is."""

    clock: VirtualClock
    never: bool = False

    def known(self, items: Sequence[str], asked_us: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], float]:
        until_us = float("-inf") if self.never else to_us(self.clock.now()) - DAY_S * 1_000_000
        late = np.array([float(zlib.crc32(item.encode()) % 4 == 0) for item in items])
        return np.where(asked_us <= until_us, late, np.nan), until_us / 1e6


class Weeks:
    """A champion 1, an approved version 2 of low risk, and days of 240 requests."""

    def __init__(self, ledger: Ledger, bundles: Path, folder: Path, enter: Callable[..., Bundle]) -> None:
        assert isinstance(ledger.clock, VirtualClock)
        self.ledger, self.bundles, self.folder = ledger, bundles, folder
        self.enter = enter
        self.outcomes = Outcomes(ledger.clock)
        self.traffic = Traffic(ledger, ledger.clock, folder / "predictions", folder / "shadow")
        self.traffic.behaviours = {1: at_random, 2: at_random}
        self.logs = Logs(self.traffic.predictions, self.traffic.shadows)
        for version in (1, 2):
            self.enter_approved(version)
        self.bring(1, "prod")
        self.controller = self.restarted()

    def enter_approved(self, version: int) -> None:
        self.enter(version, tier="low")
        commands.approve(self.ledger, version, by="Ada", bundles=self.bundles)

    def bring(self, version: int, to: str) -> None:
        commands.bring(self.ledger, version, to, bundles=self.bundles)

    def restarted(self, *, is_awaited: bool = False) -> Controller:
        """Return a controller that knows the files only; a canary passes by its errors, and only if labels are awaited.

        It is not frozen for the silence between two batches.
        """
        low, change = commands.POLICIES.low, msgspec.structs.replace
        assert low.judge.log_loss is not None
        rule = change(low.judge.log_loss, is_awaited=is_awaited)
        patient = change(low.judge, silence_s=1e9, latency=None, predictions=None, log_loss=rule)
        canary = tuple(change(step, min_requests=100 if is_awaited else 10**9) for step in low.canary)
        policies = msgspec.structs.replace(
            commands.POLICIES, low=msgspec.structs.replace(low, judge=patient, canary=canary)
        )
        desk = Desk(self.ledger, self.bundles, policies, commands.PEOPLE, commands.CONTROLLER)
        folder = self.folder / "rollout"
        return Controller(desk, LogObserver(self.logs, folder), LabelChecks(self.logs, folder, self.outcomes))

    def days(self, n: int, *, restart: bool = False) -> list[str]:
        """Let days pass and the controller look after each; return what it did."""
        done = []
        for _ in range(n):
            self.traffic.send(240, n_batch=120, every_s=DAY_S / 2)
            self.controller = self.restarted() if restart else self.controller
            done += self.controller.step()
        return done

    def shadow(self, version: int) -> None:
        route_commands.change_routes(
            self.ledger,
            lambda state: route_edits.set_shadow(state, version, 1.0),
            by=commands.person("Ada"),
            policies=commands.POLICIES,
            people=commands.PEOPLE,
            bundles=self.bundles,
        )

    def records(self, action: str) -> list[Record]:
        return [record for record in self.ledger.records() if record.action == action]

    @property
    def champion(self) -> int | None:
        return fold(self.ledger.records()).champion

    def file(self) -> dict[str, Any]:
        (path,) = (self.folder / "rollout").glob("2-*-labels-1.json")
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def line(self, version: int = 2) -> str:
        records = self.ledger.records()
        return label_line(self.folder / "rollout", fold(records), records, version)

    def votes(self) -> dict[str, Any]:
        return {name: value for name, value in self.file()["test"].items() if name != "closed_until_s"}


@pytest.fixture
def weeks(ledger: Ledger, bundles: Path, tmp_path: Path, enter: Callable[..., Bundle]) -> Weeks:
    return Weeks(ledger, bundles, tmp_path, enter)


def promoted_with_shadow(weeks: Weeks, behaviour: Behaviour) -> Weeks:
    weeks.traffic.behaviours[2] = behaviour
    weeks.bring(2, "prod")
    weeks.shadow(1)
    return weeks


def test_a_version_whose_labels_are_fine_stays_and_its_check_closes(weeks: Weeks) -> None:
    done = promoted_with_shadow(weeks, at_rate).days(3)
    assert weeks.line().startswith("labels: open until 2013-10-03 12:00 UTC, 0 of ")
    done += weeks.days(WINDOW_DAYS)
    assert weeks.champion == 2
    assert weeks.line().startswith("labels: passed, 0 of ")
    assert not weeks.line(1)
    (record,) = weeks.records(LABEL_CHECK)
    assert (record.subject, record.detail["outcome"]) == ("2", "passed")
    assert done == [f"version 2: {record.detail['what']}"]
    assert record.detail["metrics"]["log_loss"]["n_canary"] >= 18


def test_a_version_that_is_much_worse_is_rolled_back_after_its_promotion(weeks: Weeks) -> None:
    done = promoted_with_shadow(weeks, too_sure).days(WINDOW_DAYS)
    assert weeks.champion == 1
    (record,) = weeks.records("rolled_back")
    assert record.detail["stage"] == "prod"
    assert record.detail["evidence"]["metrics"]["log_loss"]["outcome"] == "fail"
    assert len(done) == 1
    assert "taken out of prod: labels: log loss is worse by more than 0.005 nats" in done[0]
    assert not weeks.records(LABEL_CHECK)


def test_a_canary_is_rolled_back_by_the_labels_of_its_own_units(weeks: Weeks) -> None:
    weeks.traffic.behaviours[2] = too_sure
    weeks.bring(2, "canary")
    weeks.days(WINDOW_DAYS)
    (record,) = weeks.records("rolled_back")
    assert (record.subject, record.detail["stage"]) == ("2", "canary")
    assert "labels: log loss" in record.detail["reason"]


def test_a_canary_whose_labels_are_awaited_passes_once_they_do(weeks: Weeks) -> None:
    weeks.traffic.behaviours[2] = at_rate
    weeks.bring(2, "canary")
    weeks.shadow(1)
    weeks.controller, weeks.outcomes.never = weeks.restarted(is_awaited=True), True
    assert weeks.days(12) == [], "nothing but labels is missing"
    weeks.outcomes.never = False
    done = weeks.days(1)
    assert done[0].startswith("version 2 passed canary of 50%")


def test_a_shadow_that_is_much_worse_is_frozen_once_and_then_left_to_people(weeks: Weeks) -> None:
    weeks.enter(3, tier="high")
    commands.approve(weeks.ledger, 3, by="Ada", bundles=weeks.bundles)
    weeks.traffic.behaviours[3] = too_sure
    weeks.bring(3, "shadow")
    done = weeks.days(WINDOW_DAYS)
    (frozen,) = weeks.records("frozen")
    assert "labels: log loss is worse" in frozen.detail["reason"]
    assert [record.detail["outcome"] for record in weeks.records(LABEL_CHECK)] == ["failed"]
    assert [line.startswith("version 3 frozen in shadow") for line in done[-2:]] == [True, False]


def test_a_failed_champion_stays_where_the_one_before_cannot_be_opened(weeks: Weeks) -> None:
    promoted_with_shadow(weeks, too_sure)
    shutil.rmtree(weeks.bundles / fold(weeks.ledger.records()).versions[1].digest[:16])
    done = weeks.days(WINDOW_DAYS - 1)
    assert len(done) == 1 and "version 2 failed by its labels and stays champion" in done[0]
    assert weeks.champion == 2
    assert not weeks.records("refused")


def test_after_promotion_answers_without_a_pair_do_not_count(weeks: Weeks) -> None:
    weeks.traffic.behaviours[2] = too_sure
    weeks.bring(2, "prod")
    weeks.days(WINDOW_DAYS + 1)
    (record,) = weeks.records(LABEL_CHECK)
    assert record.detail["outcome"] == "ran out"
    assert record.detail["metrics"]["log_loss"]["n_canary"] == 0
    assert weeks.champion == 2


def test_a_check_without_any_label_runs_out_and_says_so_once(weeks: Weeks) -> None:
    weeks.outcomes.never = True
    promoted_with_shadow(weeks, too_sure)
    assert weeks.days(WINDOW_DAYS - 1) == []
    assert len(weeks.days(5, restart=True)) == 1
    assert [record.detail["outcome"] for record in weeks.records(LABEL_CHECK)] == ["ran out"]


def test_a_controller_that_starts_anew_each_day_comes_to_the_same(weeks: Weeks) -> None:
    other = LabelChecks(weeks.logs, weeks.folder / "other", weeks.outcomes)
    promoted_with_shadow(weeks, at_rate)
    rule = commands.POLICIES.low.judge.log_loss
    assert rule is not None
    for _ in range(8):
        assert weeks.days(1, restart=True) == []
        (period,) = label_periods(fold(weeks.ledger.records()), weeks.ledger.records())
        unbroken = other.look(period, commands.POLICIES.low.judge, rule, weeks.ledger.clock.now())
        assert unbroken.line == weeks.file()["line"]
    assert unbroken.n_votes >= 5


def test_labels_that_come_after_their_day_has_voted_change_no_vote(weeks: Weeks) -> None:
    promoted_with_shadow(weeks, at_rate).days(6)
    before = weeks.votes()
    log = weeks.traffic
    log.clock.advance_to(log.clock.now() + timedelta(minutes=2))
    late = {"request_id": "late", "flight_id": "f0", "request_us": to_us(log.clock.now()) - 4 * DAY_S * 1_000_000}
    log.log_pair({**late, "logged_at_us": to_us(log.clock.now())}, answered_by=2, scored_by=1)
    assert weeks.controller.step() == []
    assert weeks.votes() == before
    assert before["standing"]["n_canary"] >= 4


def test_a_newer_champion_ends_the_check_of_the_one_before(weeks: Weeks) -> None:
    promoted_with_shadow(weeks, too_sure).days(5)
    weeks.enter_approved(3)
    weeks.traffic.behaviours[3] = at_random
    weeks.bring(3, "prod")
    weeks.days(WINDOW_DAYS - 1)
    assert weeks.champion == 3
    assert not weeks.records("rolled_back")


def test_no_more_wait_than_fit_and_whole_units_go(weeks: Weeks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_items, "MAX_WAITING", 100)
    promoted_with_shadow(weeks, at_rate)
    weeks.traffic.send(600)
    (period,) = label_periods(fold(weeks.ledger.records()), weeks.ledger.records())
    waiting = WaitingItems()
    for folder in (weeks.traffic.predictions, weeks.traffic.shadows):
        for part in read_new(folder, {})[0]:
            waiting.add(part, period)
    assert 20 < len(waiting.ready()) <= 100
    assert waiting.kept_share in (0.125, 0.0625)
    assert len(waiting.ready()) == len(waiting.items), "what is kept of one log is kept of the other"
