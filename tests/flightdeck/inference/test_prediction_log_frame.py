"""What is written is what is read, whatever it is and however the file was cut or damaged."""

import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.inference.prediction_log_batch import NONE, FeatureGroup, LogBatch
from flightdeck.inference.prediction_log_frame import HEADER, INTS, LONG_TEXT, MAGIC, TEXT, FrameEncoder, decode, scan
from flightdeck.inference.prediction_log_table import LOGGED_AT, NULLABLE_TIMES, SCHEMA, to_tables
from tests.predictions import Record, log_batch

text = st.text(max_size=8)
maybe_text = st.none() | st.sampled_from(["champion:store_unavailable", "a@1,b@2"]) | text
times = st.integers(NONE, 2**53)
reals = st.floats(width=64)
flights = st.fixed_dictionaries({"carrier": text, "amount": st.integers(-(2**63), 2**63 - 1), "price": reals})
records = st.fixed_dictionaries(
    {
        **{name: text for name in TEXT if name not in ("decision", "model_version")},
        **dict.fromkeys((*LONG_TEXT, "decision"), maybe_text),
        "model_version": st.none() | st.integers(1, 9),
        **dict.fromkeys(INTS, times),
        "logged_at_us": st.integers(0, 2**52),
        "probability": reals,
        "latency_ms": reals,
        "model_ms": reals,
        "flight": flights,
        "features": st.none() | st.lists(st.floats(width=32), max_size=4),
    }
)


def frame(batch: LogBatch) -> bytes:
    return bytes(FrameEncoder().encode(batch, n_dropped=0, n_sampled_out=0))


def rows(content: bytes) -> list[dict[str, Any]]:
    frames = [(place, decode(payload)) for place, payload in scan(content).frames]
    return [row for table in to_tables("s", frames) for row in table.to_pylist()]


def expected(record: Record) -> dict[str, Any]:
    """Return what a table holds of a record."""
    row = {name: value for name, value in record.items() if name not in ("flight", "logged_at_us")}
    row |= {name: None for name in NULLABLE_TIMES if row[name] == NONE}
    row |= {name: None for name in ("probability", "latency_ms", "model_ms") if np.isnan(row[name])}
    version = record["model_version"]
    return {**row, **record["flight"], "model_version": None if version is None else str(version), "weight": 1.0}


@given(batches=st.lists(st.lists(records, min_size=1, max_size=6), max_size=4))
def test_what_is_written_is_read(batches: list[list[Record]]) -> None:
    found = rows(b"".join(frame(log_batch(batch)) for batch in batches))
    wanted = [record for batch in batches for record in batch]
    assert len(found) == len(wanted)
    for row, record in zip(found, wanted, strict=True):
        assert int(row.pop(LOGGED_AT).timestamp() * 1e6 + 0.5) // 1000 == record["logged_at_us"] // 1000
        row.pop("segment"), row.pop("frame_at")
        np.testing.assert_equal(row, expected(record))


@given(
    n=st.integers(1, 9),
    widths=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    data=st.data(),
)
def test_rows_of_several_releases_keep_their_own_features(n: int, widths: list[int], data: st.DataObject) -> None:
    owner = data.draw(st.lists(st.integers(-1, len(widths) - 1), min_size=n, max_size=n))
    batch = log_batch([{"item": place} for place in range(n)])
    groups, wanted = [], [None] * n
    for group, width in enumerate(widths):
        places = data.draw(st.permutations([place for place in range(n) if owner[place] == group]))
        values = np.array([[100 * place + at for at in range(width)] for place in places], np.float32)
        groups.append(FeatureGroup(f"d{group}", values.reshape(len(places), width), np.array(places, np.intp)))
        for place in places:
            wanted[place] = [float(100 * place + at) for at in range(width)]  # type: ignore[call-overload]
    whole = msgspec.structs.replace(batch, features=groups)
    assert [row["features"] for row in rows(frame(whole))] == wanted
    kept = data.draw(st.permutations(range(n)).map(lambda order: order[: len(order) // 2 + 1]))
    assert [row["features"] for row in rows(frame(whole.take(np.array(kept))))] == [wanted[place] for place in kept]


def test_a_group_of_all_rows_needs_no_places() -> None:
    batch = log_batch([{}, {}])
    values = np.array([[1.0, np.nan], [3.0, 4.0]])
    whole = msgspec.structs.replace(batch, features=[FeatureGroup("d", values)])  # type: ignore[arg-type]
    np.testing.assert_equal([row["features"] for row in rows(frame(whole))], values.tolist())
    np.testing.assert_equal([row["features"] for row in rows(frame(whole.take(np.array([1]))))], values[1:].tolist())


def test_long_text_that_repeats_is_written_once_each() -> None:
    digests = ["a" * 64, "b" * 64] * 20
    content = frame(log_batch([{"bundle_digest": digest} for digest in digests]))
    assert content.count(b"a" * 64) == 1
    assert [row["bundle_digest"] for row in rows(content)] == digests


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4), cut=st.integers(0, 5000))
def test_a_cut_anywhere_leaves_the_whole_frames_and_one_torn(sizes: list[int], cut: int) -> None:
    frames = [frame(log_batch([{}] * size)) for size in sizes]
    content = b"".join(frames)[:cut]
    ends = np.cumsum([len(one) for one in frames])
    n_whole = int((ends <= len(content)).sum())
    found = scan(content)
    assert len(found.frames) == n_whole
    assert found.end == (ends[n_whole - 1] if n_whole else 0)
    assert (found.n_torn, found.n_damaged, found.n_damaged_at_end) == (int(found.end < len(content)), 0, 0)


@given(
    place=st.integers(0, 10_000), flip=st.integers(1, 255), sizes=st.lists(st.integers(1, 3), min_size=2, max_size=4)
)
def test_a_changed_byte_costs_its_frame_and_no_other(place: int, flip: int, sizes: list[int]) -> None:
    frames = [frame(log_batch([{"request_id": f"{n}"}] * size)) for n, size in enumerate(sizes)]
    content = bytearray(b"".join(frames))
    place %= len(content)
    content[place] ^= flip
    hit = int(np.searchsorted(np.cumsum([len(one) for one in frames]), place, side="right"))
    found = scan(bytes(content))
    assert [row["request_id"] for row in rows(bytes(content))] == [
        f"{n}" for n, size in enumerate(sizes) if n != hit for _ in range(size)
    ]
    assert found.n_damaged + found.n_torn + found.n_damaged_at_end == 1


def seal(payload: Any) -> bytes:
    raw = msgspec.msgpack.encode(payload)
    return HEADER.pack(MAGIC, len(raw), zlib.crc32(raw)) + raw


def content_of(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode(content[HEADER.size :])
    return found


def test_fields_and_columns_of_a_later_writer_are_ignored() -> None:
    later = content_of(frame(log_batch([{"request_id": "a"}])))
    later["shape"] = {"new": [1]}
    later["text"]["api_key_id"] = "k"
    later["ints"]["layer"] = b"\0" * 8
    (row,) = rows(seal(later))
    assert row["request_id"] == "a" and set(row) == set(SCHEMA.names)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ints", {"item": b"\0" * 9}),
        ("text", {"mode": ["model", "model"]}),
        ("text", {"mode": {"of": ["model"], "at": b"\x01"}}),
        ("text", {"mode": {"of": ["model"], "at": b"\0\0"}}),
        ("features", [{"digest": "d", "n_features": 2, "values": b"\0" * 4}]),
        ("features", [{"digest": "d", "n_features": 1, "values": b"\0" * 4, "rows": b"\1\0\0\0"}]),
        ("n", "one"),
    ],
)
def test_a_frame_that_contradicts_itself_is_refused(field: str, value: object) -> None:
    payload = {**content_of(frame(log_batch([{}]))), field: value}
    with pytest.raises(ValueError, match=r"frame|rows"):
        decode(seal(payload)[HEADER.size :])


def test_a_request_column_named_like_one_of_the_log_is_told_apart() -> None:
    (row,) = rows(frame(log_batch([{"flight": {"surface": "grass", "request_us": 7}}])))
    assert row["surface"] == "search" and row["request_surface"] == "grass" and "request_request_us" not in row


def test_frames_with_other_request_columns_come_as_tables_of_their_own() -> None:
    batches = [
        log_batch([{"flight": {"a": 1}}]),
        log_batch([{"flight": {"a": "x"}}]),
        log_batch([{"flight": {"a": "y"}}]),
    ]
    content = b"".join(map(frame, batches))
    tables = list(to_tables("s", [(place, decode(payload)) for place, payload in scan(content).frames]))
    assert [table["a"].to_pylist() for table in tables] == [[1], ["x", "y"]]
