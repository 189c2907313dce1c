"""Tampering touches what became known after a moment, and nothing else."""

import pandas as pd
import pyarrow as pa
import pytest

from pipelines.evaluation.tampering import TAMPERINGS, known_until, tamper
from tests.event_streams import MINUTE_US, NOON_US, between, random_events

FIRST_US = NOON_US - 600 * MINUTE_US
ASKED = pd.DataFrame({"carrier": ["UA"], "origin": ["EWR"], "dest": ["MIA"], "tailnum": ["N1"]})


@pytest.fixture(scope="module")
def events() -> dict[str, pa.Table]:
    found = random_events(3, 200, first_us=FIRST_US, last_us=NOON_US)
    return {
        name: table.sort_by("created_timestamp").replace_schema_metadata({"a": "b"}) for name, table in found.items()
    }


@pytest.mark.parametrize("how", TAMPERINGS)
def test_what_was_known_stays_and_what_came_later_does_not(how: str, events: dict[str, pa.Table]) -> None:
    moment_us = FIRST_US + 300 * MINUTE_US
    tampered = tamper(events, moment_us, ASKED, how)
    known = between(events, 0, moment_us)
    assert {name: table.num_rows for name, table in known_until(events, moment_us).items()} == {
        name: table.num_rows for name, table in known.items()
    }
    for name, table in tampered.items():
        assert between({name: table}, 0, moment_us)[name].equals(known[name])
        is_touched = not between({name: table}, moment_us, NOON_US)[name].equals(
            between(events, moment_us, NOON_US)[name]
        )
        assert is_touched or (name, how) == ("cancelled", "changed")  # a cancellation has no number to change
        assert table.schema.equals(events[name].schema, check_metadata=True)


def test_forged_events_are_of_the_asked_entity_a_microsecond_later(events: dict[str, pa.Table]) -> None:
    moment_us = FIRST_US + 300 * MINUTE_US
    for name, table in between(tamper(events, moment_us, ASKED, "forged"), moment_us, moment_us + 1).items():
        (forged,) = table.to_pylist()
        assert {key: forged[key] for key in ASKED if key in forged} == {
            key: ASKED[key][0] for key in ASKED if key in forged
        }, name


@pytest.mark.parametrize("how", TAMPERINGS)
def test_after_the_last_event_there_is_nothing_to_tamper_with(how: str, events: dict[str, pa.Table]) -> None:
    for name, table in tamper(events, NOON_US, ASKED, how).items():
        assert table.equals(events[name])
