from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.reports import Summary
from dashboards.sources import Unreadable, read_quarantine, read_record, read_table, readable_page
from flightdeck.core.errors import NotFoundError

KINDS = {"name": "object", "n": "int64"}


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    for read in (
        lambda path: read_table(path, KINDS, made_by="kedro monitor"),
        lambda path: read_record(path, Summary, made_by="kedro monitor"),
        lambda path: readable_page(path, made_by="kedro monitor"),
        lambda path: read_quarantine(path, reason=None, made_by="kedro monitor"),
    ):
        with pytest.raises(NotFoundError) as raised:
            read(tmp_path / "absent")
        assert raised.value.next_step == "kedro monitor"


@given(content=st.binary(max_size=200))
def test_no_content_of_a_file_raises_anything_else(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(content)
    for read in (
        lambda: read_table(path, KINDS, made_by="x"),
        lambda: read_quarantine(path, reason=None, made_by="x"),
        lambda: read_record(path, Summary, made_by="x"),
        lambda: readable_page(path, made_by="x"),
    ):
        try:
            read()
        except Unreadable as error:
            assert "file" in error.message


def test_a_table_lacking_a_column_or_of_another_type_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"name": ["a"]}).to_parquet(path)
    with pytest.raises(Unreadable, match="columns n are missing"):
        read_table(path, KINDS, made_by="x")
    pd.DataFrame({"name": ["a"], "n": ["many"]}).to_parquet(path)
    with pytest.raises(Unreadable, match="many"):
        read_table(path, KINDS, made_by="x")


def test_a_table_has_exactly_the_columns_and_types_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"n": [1.0], "later": [2], "name": ["a"]}).to_parquet(path)
    table = read_table(path, KINDS, made_by="x")
    assert {name: str(kind) for name, kind in table.dtypes.items()} == KINDS


def test_a_record_of_another_form_is_unreadable_and_a_later_field_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"auc": "high"}')
    with pytest.raises(Unreadable, match="auc"):
        read_record(path, Summary, made_by="x")
    path.write_text('{"auc": 0.7, "invented_later": {}}')
    assert read_record(path, Summary, made_by="x") == Summary(auc=0.7)


def test_quarantine_is_read_by_reason_and_counted_in_full(tmp_path: Path) -> None:
    path = tmp_path / "weather.parquet"
    pd.DataFrame(
        {
            "source_offset": range(500),
            "reason": ["odd" if i % 2 else "even" for i in range(500)],
            "row": [f'{{"temp": "{i}"}}' for i in range(500)],
        }
    ).to_parquet(path)
    found = read_quarantine(path, reason="odd", made_by="x")
    assert (found.n_rows, len(found.rows)) == (250, 200)
    assert found.rows.iloc[0].to_dict() == {"line": 1, "reason": "odd", "temp": "1"}
