"""Rules are data: the engine looks up what the use case describes, and finds what its formula found."""

import msgspec
import numpy as np
import pytest

from flightdeck.core.clock import MINUTE_US
from flightdeck.inference.rules import Rules, cells, read_rules
from pipelines.inference.rules import RULE_KEYS
from tests.graphs import RULES, request_rows


def test_the_keys_are_carrier_and_local_hour_of_departure() -> None:
    rows = request_rows(5_000)
    rows["scheduled_departure_us"][:4] = (-1, 0, 86_399_999_999, 1_378_000_000_000_000)
    local_min = rows["scheduled_departure_us"] // MINUTE_US + rows["origin_utc_offset_min"]
    hours = (local_min % 1440 // 60).tolist()
    expected = [f"{carrier}:{hour}" for carrier, hour in zip(rows["carrier"], hours, strict=True)]
    assert list(cells(RULE_KEYS, rows)) == expected
    assert set(hours) == set(range(24))


def test_what_is_not_in_the_table_gets_the_overall_rate() -> None:
    rules, rows = read_rules(RULES), request_rows(3)
    rows["carrier"] = np.array(["UA", "UA", "ZZ"], dtype=object)
    rows["scheduled_departure_us"] = np.array([14, 15, 14]) * 3_600_000_000
    rows["origin_utc_offset_min"] = np.array([-240] * 3)
    np.testing.assert_array_equal(rules.score(rows), [0.5, 0.25, 0.25])
    assert rules.score({name: column[:0] for name, column in rows.items()}).shape == (0,)


def test_rules_survive_the_way_through_a_file_and_name_the_columns_that_they_read() -> None:
    rules = Rules(RULE_KEYS, {"UA:10": 0.5}, 0.25)
    assert read_rules(msgspec.json.encode(rules)) == rules == read_rules(RULES)
    assert rules.columns == ("carrier", "scheduled_departure_us", "origin_utc_offset_min")


@pytest.mark.parametrize(
    "key",
    [
        {"kind": "python", "column": "carrier"},
        {"kind": "column"},
        {"kind": "column", "column": "carrier", "upper": True},
        {"kind": "integer", "weights": {"a": 1}, "modulus": 0},
        {"kind": "integer", "weights": {"a": 1}, "modulus": 9, "divisor": 0},
        {"kind": "integer", "weights": {"a": 0.5}, "modulus": 9},
        {"kind": "integer", "weights": {}, "modulus": 9},
    ],
)
def test_a_key_without_meaning_is_refused(key: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read_rules({**RULES, "keys": [key]})
