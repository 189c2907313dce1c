import json
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dashboards.charts import draw_answers_by_hour
from dashboards.live_traffic import HOUR_US, LiveTraffic
from flightdeck.inference.prediction_log_compact import compact, compacting
from flightdeck.inference.prediction_log_frame import FrameEncoder
from tests.predictions import log_batch


def frame(request_us: int, *, mode: str = "model", item: int = 0) -> bytes:
    batch = log_batch([{"request_us": request_us, "mode": mode, "item": item}])
    return bytes(FrameEncoder().encode(batch, n_dropped=0, n_sampled_out=0))


def total(traffic: LiveTraffic) -> int:
    return int(traffic.latest()["n"].sum())


def test_no_folder_is_no_traffic(tmp_path: Path) -> None:
    traffic = LiveTraffic(tmp_path / "absent")
    traffic.refresh()
    assert traffic.newest_us is None
    assert traffic.latest().empty


def test_an_unfinished_frame_counts_once_it_is_whole(tmp_path: Path) -> None:
    segment = tmp_path / "a-1-0000.frames"
    whole, half = frame(1), frame(2, item=1)
    segment.write_bytes(whole + half[:9])
    traffic = LiveTraffic(tmp_path)
    traffic.refresh()
    assert total(traffic) == 1
    segment.write_bytes(whole + half)
    traffic.refresh()
    assert (total(traffic), traffic.n_requests, traffic.newest_us) == (2, 1, 2)


def test_a_damaged_frame_harms_no_other(tmp_path: Path) -> None:
    (tmp_path / "a-1-0000.frames").write_bytes(frame(1) + b"\xff{]\n" + frame(3)[:-1] + b"\x00" + frame(2))
    traffic = LiveTraffic(tmp_path)
    traffic.refresh()
    assert (total(traffic), traffic.newest_us) == (2, 2)


def test_a_log_that_was_cleared_is_counted_anew(tmp_path: Path) -> None:
    segment = tmp_path / "a-1-0000.frames"
    segment.write_bytes(frame(1) * 5)
    traffic = LiveTraffic(tmp_path)
    traffic.refresh()
    segment.unlink()
    (tmp_path / "b-1-0000.frames").write_bytes(frame(7))
    traffic.refresh()
    assert (total(traffic), traffic.newest_us) == (1, 7)


def test_a_segment_that_became_columnar_is_read_on_from_the_same_place(tmp_path: Path) -> None:
    segment = tmp_path / "a-1-0000.frames"
    segment.write_bytes(frame(1) * 3)
    traffic = LiveTraffic(tmp_path)
    traffic.refresh()
    segment.write_bytes(frame(1) * 3 + frame(2) * 2)
    with compacting(tmp_path):
        assert compact(tmp_path, delete_segments=True).n_deleted == 1
    for _ in range(2):
        traffic.refresh()
        assert (total(traffic), traffic.newest_us) == (5, 2)
    fresh = LiveTraffic(tmp_path)
    fresh.refresh()
    assert total(fresh) == 5


def test_only_the_last_day_of_request_time_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a-1-0000.frames").write_bytes(frame(HOUR_US) + frame(30 * HOUR_US, mode="rules"))
    traffic = LiveTraffic(tmp_path)
    traffic.refresh()
    assert traffic.latest()["mode"].tolist() == ["rules"]


@given(cuts=st.lists(st.integers(0, 4000), max_size=6))
def test_reading_on_in_any_pieces_counts_as_reading_at_once(cuts: list[int], tmp_path_factory: object) -> None:
    folder = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]
    content = b"".join(frame(i * HOUR_US, mode=("model", "rules")[i % 2], item=i % 3) for i in range(6))
    traffic = LiveTraffic(folder)
    for cut in [*sorted(cuts), len(content)]:
        (folder / "a-1-0000.frames").write_bytes(content[:cut])
        traffic.refresh()
    assert traffic.latest()["n"].tolist() == [1] * 6
    assert traffic.n_requests == 2


def test_visitors_at_once_count_each_record_once(tmp_path: Path) -> None:
    (tmp_path / "a-1-0000.frames").write_bytes(frame(1) * 2000)
    traffic = LiveTraffic(tmp_path)
    threads = [threading.Thread(target=traffic.refresh) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(traffic) == 2000


def test_a_mode_that_nobody_knows_yet_is_drawn_too(tmp_path: Path) -> None:
    (tmp_path / "a-1-0000.frames").write_bytes(frame(1) + frame(2, mode="guessed"))
    traffic = LiveTraffic(tmp_path)
    traffic.refresh()
    assert "guessed" in json.dumps(draw_answers_by_hour(traffic.latest()).to_dict(), default=str)
