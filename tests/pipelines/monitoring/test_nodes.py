"""The nodes of monitoring on frames made for the purpose."""

import numpy as np
import pandas as pd
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.monitoring.champion import ChampionReference
from pipelines.monitoring import nodes
from tests.event_streams import MINUTE_US, NOON_US
from tests.flightdeck.monitoring.samples import SETTINGS, monitoring_settings, prediction_rows
from tests.pipelines.monitoring.day import FEATURES

DAY_US = 24 * 60 * MINUTE_US


def test_predictions_are_judged_at_the_watermark() -> None:
    rows = prediction_rows(3, request_us=[NOON_US - 8 * DAY_US, NOON_US - DAY_US, NOON_US])
    chosen, as_of = nodes.select_predictions(rows, {"a": NOON_US - 5, "b": NOON_US}, SETTINGS)
    assert as_of == {"as_of_us": NOON_US, "judged_us": NOON_US}
    assert chosen["request_us"].tolist() == [NOON_US - DAY_US, NOON_US]
    assert nodes.select_predictions(rows, {}, SETTINGS)[1] == {"as_of_us": NOON_US, "judged_us": NOON_US}
    assert nodes.select_predictions(rows.iloc[:0], {}, SETTINGS)[1] == {"as_of_us": None, "judged_us": None}


def test_a_finished_replay_is_judged_at_its_watermark() -> None:
    done_us = NOON_US + 34 * 60 * MINUTE_US
    assert nodes.select_predictions(prediction_rows(3), {"a": done_us}, SETTINGS)[1]["judged_us"] == done_us


def test_requests_after_a_stalled_watermark_are_judged() -> None:
    later_us = NOON_US + 60 * MINUTE_US
    rows = prediction_rows(3, request_us=[NOON_US, NOON_US + 1, later_us], watermark_us=[NOON_US, NOON_US, -1])
    chosen, as_of = nodes.select_predictions(rows, {"a": NOON_US}, SETTINGS)
    assert len(chosen) == 3 and as_of == {"as_of_us": NOON_US, "judged_us": later_us}


def test_an_earlier_replay_of_a_later_day_is_no_stall() -> None:
    later_us = NOON_US + DAY_US
    rows = prediction_rows(3, request_us=[later_us, later_us + 1, NOON_US], watermark_us=[later_us, -1, NOON_US - 1])
    chosen, as_of = nodes.select_predictions(rows, {"a": NOON_US}, SETTINGS)
    assert chosen["request_us"].tolist() == [NOON_US] and as_of["judged_us"] == NOON_US


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="minimum_row"):
        nodes.settings_of({**SETTINGS, "minimum_row": 1})


def test_only_the_champions_own_answers_meet_its_reference() -> None:
    numeric = len(FEATURES["numeric"])
    rows = prediction_rows(
        4,
        mode=["model", "model", "rules", "model"],
        bundle_digest=["a", "b", "a", "a"],
        scheduled_departure_us=[NOON_US + 120 * MINUTE_US + 9] * 3 + [NOON_US],
        features=[np.zeros(numeric, np.float32)] * 4,
    ).assign(label=1.0, is_mature=True)
    champion = ChampionReference(1, "a", FEATURES)
    days = nodes.measure_days(rows, champion, SETTINGS)
    assert days["day"].tolist() == ["2013-09-12"] and days["n_labelled"].tolist() == [1]
    assert nodes.measure_days(rows, ChampionReference(), SETTINGS).empty


def test_no_champion_compares_nothing() -> None:
    drift, page = nodes.compare_distributions(prediction_rows(3), ChampionReference(), SETTINGS)
    assert drift.table.empty and "no champion" in page
    drift, _ = nodes.compare_distributions(prediction_rows(3), ChampionReference(1, "a", problem="altered"), SETTINGS)
    assert drift.table.empty


def test_current_window_and_day() -> None:
    cast = monitoring_settings()
    rows = prediction_rows(3, request_us=[NOON_US - DAY_US, NOON_US - DAY_US + 1, NOON_US])
    assert nodes.current_window(rows, cast).index.tolist() == [1, 2]
    assert nodes.current_window(rows.iloc[:0], cast).empty
    assert nodes.current_day(rows, 0, cast) == "2013-09-12"
    assert nodes.current_day(rows.iloc[:0], NOON_US - 4 * 60 * MINUTE_US, cast) == "2013-09-11"


def test_ages_of_nothing() -> None:
    assert isinstance(nodes.count_current_answers(prediction_rows(0), SETTINGS), pd.DataFrame)


def test_a_live_day_is_audited_at_few_offsets_and_a_replayed_one_whole() -> None:
    offsets = [f"departed@{n // 10}" for n in range(5000)]
    live = prediction_rows(5000, feature_offset=offsets)
    sample = nodes._sample_to_audit(live, monitoring_settings(audit_rows=100_000))
    assert (len(sample), sample["feature_offset"].nunique()) == (10 * nodes.MAX_OFFSETS, nodes.MAX_OFFSETS)
    replayed = live.assign(feature_offset="departed@0")
    assert len(nodes._sample_to_audit(replayed, monitoring_settings(audit_rows=100_000))) == 5000
    assert len(nodes._sample_to_audit(replayed, monitoring_settings(audit_rows=70))) == 70
