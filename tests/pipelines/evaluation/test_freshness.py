"""The data behind a draft: in the log as it was read, not too much of it turned away, young enough where asked."""

import re
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from flightdeck.core.clock import VirtualClock, from_us
from flightdeck.core.errors import ConfigError, ContractViolation, NotFoundError
from flightdeck.core.layout import Layout
from flightdeck.events.dead_letters import DeadLetter, DeadLetters
from flightdeck.gates.assessment import run_families
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.evaluation.families import FAMILIES
from pipelines.evaluation.freshness import freshness
from tests.event_streams import NOON_US
from tests.pipelines.evaluation.trained import change_json, evidence_of, write_report


def look(place: Layout, bounds: Thresholds) -> dict[str, Check]:
    return {check.name: check for check in freshness(evidence_of(place), bounds)}


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_what_is_in_the_log_and_was_accepted_passes_and_no_age_is_asked_for(
    trained: Layout, bounds: Thresholds
) -> None:
    found = look(trained, bounds)
    assert list(found) == ["data_in_log", "quarantined_pct"] and not failed(list(found.values()))
    assert found["quarantined_pct"].value == pytest.approx(0.1)
    assert "source weather, 1 of 1,000" in found["quarantined_pct"].detail


@pytest.mark.parametrize(
    ("change", "says"),
    [({"digest": "0" * 64}, "departed 0 is .*, not 000000000000"), ({"version": 3}, "departed has no version 3")],
    ids=["other events", "no such version"],
)
def test_a_version_that_the_log_does_not_hold_fails(
    change: dict[str, object], says: str, trained: Layout, bounds: Thresholds
) -> None:
    versions = evidence_of(trained).training["data_versions"]
    versions["departed"] |= change
    change_json(trained.draft_bundle / "training.json", data_versions=versions)
    write_report(trained, versions)
    found = look(trained, bounds)
    assert failed(list(found.values())) == ["data_in_log"] and found["data_in_log"].value == 1
    assert re.search(says, found["data_in_log"].detail)


def test_a_source_that_was_turned_away_above_the_bound_fails(trained: Layout, bounds: Thresholds) -> None:
    write_report(trained, evidence_of(trained).training["data_versions"], n_quarantined=30)
    found = look(trained, bounds)
    assert failed(list(found.values())) == ["quarantined_pct"] and found["quarantined_pct"].value == pytest.approx(3.0)
    assert "source flights, 30 of 1,000" in found["quarantined_pct"].detail


def test_events_of_a_stream_that_wait_as_dead_letters_count(trained: Layout, bounds: Thresholds) -> None:
    letters = [DeadLetter("arrived", str(n), f"dead-{n}", "broken", "{}") for n in range(100)]
    DeadLetters(trained.dead_letters).add(letters)
    found = look(trained, bounds)
    assert found["quarantined_pct"].value == pytest.approx(25.0) and not found["quarantined_pct"].passed
    assert "stream arrived, 100 of 400" in found["quarantined_pct"].detail
    DeadLetters(trained.dead_letters).settle(letters, "replayed")
    assert look(trained, bounds)["quarantined_pct"].passed


@pytest.mark.parametrize(("bound_h", "passes"), [(31.0, True), (29.0, False)])
def test_the_age_of_the_most_silent_stream_is_held_against_the_bound(
    bound_h: float, passes: bool, trained: Layout, bounds: Thresholds
) -> None:
    clock = VirtualClock(from_us(NOON_US) + timedelta(hours=30))
    asked = msgspec.structs.replace(bounds, data_age_h_at_most=bound_h)
    age = freshness(evidence_of(trained), asked, clock)[-1]
    assert (age.name, age.passed) == ("data_age_h", passes)
    assert age.value is not None and 30 < age.value < 30.5


def test_a_report_that_is_missing_or_about_other_data_could_not_run(trained: Layout, bounds: Thresholds) -> None:
    versions = evidence_of(trained).training["data_versions"]
    write_report(trained, {**versions, "departed": {**versions["departed"], "version": 1}})
    (check,) = run_families(["freshness"], FAMILIES, evidence_of(trained), bounds)["freshness"]
    assert not check.passed and check.blocking
    assert check.detail.startswith("could not run: ") and "other versions of departed" in check.detail
    trained.ingestion_report.write_text("{}", encoding="utf-8")
    with pytest.raises(ContractViolation, match="sources"):
        look(trained, bounds)
    trained.ingestion_report.unlink()
    with pytest.raises(NotFoundError, match=r"ingestion\.json: no such file"):
        look(trained, bounds)


def test_a_draft_that_does_not_say_what_it_read_could_not_run(trained: Layout, bounds: Thresholds) -> None:
    change_json(trained.draft_bundle / "training.json", data_versions=None)
    with pytest.raises(ConfigError, match="names no data versions"):
        look(trained, bounds)
