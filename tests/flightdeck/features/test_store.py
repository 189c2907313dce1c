"""The online store and its materializer: whole moments, refusals with advice, nothing lost at kill -9."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flightdeck.core.errors import ConfigError, ContractViolation, StoreUnavailable
from flightdeck.features import view as view_module
from flightdeck.features.aggregates import count, mean
from flightdeck.features.audit import recompute
from flightdeck.features.event_index import EntityFrame
from flightdeck.features.join import point_in_time_join
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark
from flightdeck.features.view import FeatureView, Latest, OpenItems, Windowed, windowed
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log

START_US = NOON_US - 6 * 60 * MINUTE_US


def test_reading_a_store_that_is_not_there_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="kedro features apply"):
        OnlineStore.open(tmp_path / "nothing", read_only=True)


def test_reading_a_view_that_was_never_fed_is_refused(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False)
    columns, _ = random_requests(1, 2, first_us=START_US, last_us=NOON_US)
    with pytest.raises(StoreUnavailable, match="origin_departures"):
        OnlineReader(store, VIEWS).read(columns, NOON_US)


def test_an_event_newer_than_the_watermark_is_refused(tmp_path: Path) -> None:
    events = random_events(1, 20, first_us=START_US, last_us=NOON_US)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    materializer = Materializer(store, VIEWS)
    materializer.backfill(write_log(tmp_path / "log", events), START_US)
    with pytest.raises(ValueError, match="newer than the watermark"):
        materializer.apply(events, START_US + 1)


def test_the_same_batch_twice_counts_once(tmp_path: Path) -> None:
    events = random_events(2, 40, first_us=START_US, last_us=NOON_US)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    materializer = Materializer(store, VIEWS)
    materializer.backfill(write_log(tmp_path / "log", between(events, 0, START_US)), START_US)
    first = materializer.apply(events, NOON_US)
    columns, _ = random_requests(2, 5, first_us=NOON_US, last_us=NOON_US + 1)
    once = OnlineReader(store, VIEWS).read(columns, NOON_US)
    again = materializer.apply(events, NOON_US)
    twice = OnlineReader(store, VIEWS).read(columns, NOON_US)
    assert again.n_events == 0 and again.n_late == first.n_events > 0
    for name, values in once.columns.items():
        np.testing.assert_array_equal(values, twice.columns[name])


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from flightdeck.features.materializer import Materializer
    from flightdeck.features.store import OnlineStore
    from pipelines.features.views import VIEWS
    from tests.event_streams import MINUTE_US, NOON_US, between, random_events
    folder, start_us = Path(sys.argv[1]), int(sys.argv[2])
    events = random_events(7, 400, first_us=start_us, last_us=NOON_US)
    materializer = Materializer(OnlineStore.open(folder / "store", read_only=False), VIEWS)
    for until in range(start_us + MINUTE_US, NOON_US + 1, MINUTE_US):
        materializer.apply(between(events, until - MINUTE_US, until), until)
        print(until, flush=True)
    """
)


def test_kill_9_leaves_a_whole_moment_of_the_stream(tmp_path: Path) -> None:
    events = random_events(7, 400, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, VIEWS).backfill(log, START_US)
    store.close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), str(START_US)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(40):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    columns, _ = random_requests(7, 20, first_us=NOON_US, last_us=NOON_US + 1)
    survived = OnlineReader(OnlineStore.open(tmp_path / "store", read_only=True), VIEWS).read(columns, START_US)
    assert START_US + 40 * MINUTE_US <= survived.watermark_us == survived.at_us < NOON_US
    at_us = np.full(20, survived.at_us)
    offline = recompute(VIEWS, log, columns, at_us, at_us)
    for name, values in survived.columns.items():
        np.testing.assert_array_equal(values, offline[name], err_msg=name)


COUNTER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from flightdeck.features.store import OnlineStore
    from pipelines.features.views import VIEWS
    view, store = VIEWS[0], OnlineStore.open(Path(sys.argv[1]), read_only=False)
    with store.reading() as moment:
        seen = moment.watermark_us(view)
    with store.writing() as moment:
        print(seen, moment.watermark_us(view), flush=True)
    while True:
        with store.writing() as moment:
            moment.set_watermark(view, moment.watermark_us(view) + 1)
    """
)


def test_a_writer_sees_the_last_commit_of_one_that_was_killed_within_it(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False)
    with store.writing() as moment:
        moment.set_watermark(VIEWS[0], 0)
    store.close()
    reader = OnlineStore.open(tmp_path, read_only=True)  # while one has it open LMDB's lock file is not made anew
    reached = 0
    for n_kill in range(20):
        writer = subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        seen, committed = map(int, writer.stdout.readline().split())
        assert seen == committed >= reached
        reached = committed
        with suppress(subprocess.TimeoutExpired):
            writer.wait(0.02 + n_kill / 500)
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert reached > 0
    reader.close()


def test_views_of_equal_meaning_count_an_event_once(tmp_path: Path) -> None:
    events = random_events(3, 30, first_us=START_US, last_us=NOON_US)
    twins = [
        FeatureView(name, (), "departed", Windowed((86_400,), (count(),)), ttl_s=60, owner="x") for name in ("a", "b")
    ]
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, twins).backfill(write_log(tmp_path / "log", events), NOON_US)
    served = OnlineReader(store, twins).read({"origin": ["EWR"]}, NOON_US)
    assert served.columns["a__count_1440m"] == served.columns["b__count_1440m"] == 30


def test_a_declaration_names_every_number_that_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"window 0 s.*") as refused:
        FeatureView("bad", (), "departed", Windowed((0,), (count(),)), ttl_s=-1, owner="x")
    assert "ttl_s" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"entity": "dest"}, r"entity is the text 'dest'; write \('dest',\)"),
        ({"compute": Latest("delay")}, r"columns is the text 'delay'"),  # type: ignore[arg-type]
        ({"compute": OpenItems("arrived")}, r"closed_by is the text 'arrived'"),  # type: ignore[arg-type]
        ({"compute": count()}, r"compute is Aggregate.*it is made by windowed"),
        ({"compute": Windowed((), ())}, r"windows_s is empty, aggregates is empty"),
        ({"owner": "", "source": ""}, r"source is empty, owner is empty"),
    ],
)
def test_a_slip_in_a_declaration_is_told_as_what_it_is(given: dict[str, Any], said: str) -> None:
    view = FeatureView("a", ("dest",), "departed", Windowed((60,), (count(),)), owner="x")
    with pytest.raises(ConfigError, match=said):
        replace(view, **given)


def test_the_version_of_a_view_is_its_meaning() -> None:
    view = FeatureView("a", ("origin",), "departed", Windowed((60,), (mean("is_late"),)), ttl_s=60, owner="x")
    same = FeatureView("renamed", ("origin",), "departed", Windowed((60,), (mean("is_late"),)), ttl_s=60, owner="y")
    other = FeatureView("a", ("origin",), "departed", Windowed((120,), (mean("is_late"),)), ttl_s=60, owner="x")
    assert view.digest == same.digest != other.digest


@pytest.mark.parametrize("compute", [Windowed((60,), (count(),)), OpenItems(("arrived",))], ids=["windowed", "gauge"])
def test_a_ttl_that_means_nothing_makes_no_version(compute: Windowed | OpenItems) -> None:
    view = FeatureView("a", ("origin",), "departed", compute, owner="x")
    assert replace(view, ttl_s=60).digest == view.digest
    latest = replace(view, compute=Latest(("is_late",)))
    assert replace(latest, ttl_s=60).digest != latest.digest


def test_versions_that_bundles_name_stay_what_they_are() -> None:
    compute = windowed(count(), mean("is_late"), over="30m 3h")
    assert FeatureView("a", ("origin",), "departed", compute, owner="x").version == "7909e9c7ccbe"
    latest = FeatureView("b", ("tailnum",), "departed", Latest(("is_late",)), owner="x", ttl_s=60)
    assert latest.version == "03a5fda18911"
    assert FeatureView("c", (), "scheduled", OpenItems(("departed",)), owner="x").version == "512b5524014a"


def test_fractions_are_refused_where_sums_must_be_whole() -> None:
    events = random_events(1, 9, first_us=START_US, last_us=NOON_US)
    view = FeatureView("w", ("origin",), "weather_observed", Windowed((60,), (mean("temp_f"),)), ttl_s=60, owner="x")
    columns, at_us = random_requests(1, 3, first_us=START_US, last_us=NOON_US)
    with pytest.raises(ContractViolation, match="unit that matters"):
        point_in_time_join(view, events, EntityFrame(columns, at_us))


READER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from flightdeck.core.errors import StoreUnavailable
    from flightdeck.features.online import OnlineReader
    from flightdeck.features.store import OnlineStore
    from pipelines.features.views import VIEWS
    reader = OnlineReader(OnlineStore.open(Path(sys.argv[1]), read_only=True), VIEWS)
    for _ in sys.stdin:
        try:
            reader.read({name: ["?"] for view in VIEWS for name in view.entity}, 0)
            print("read", flush=True)
        except StoreUnavailable as error:
            print(f"refused: {error.message}; {error.next_step}", flush=True)
    """
)


def fed_store(path: Path) -> Path:
    events = random_events(8, 400, first_us=START_US, last_us=NOON_US)
    store = OnlineStore.open(path / "store", read_only=False)
    Materializer(store, VIEWS).backfill(write_log(path / "log", events), NOON_US)
    store.close()
    return path / "store" / "data.mdb"


@contextmanager
def reading_process(folder: Path) -> Iterator[Callable[[], str]]:
    """Give a process that reads all views from a store whenever it is asked, and says what came of it."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:

        def ask() -> str:
            assert reader.stdin is not None and reader.stdout is not None
            print("go", file=reader.stdin, flush=True)
            return reader.stdout.readline()

        yield ask
        assert reader.stdin is not None
        reader.stdin.close()
        assert reader.wait(timeout=60) == 0


@pytest.mark.parametrize("left", [0.5, 0.0])
def test_a_file_cut_off_under_a_reader_is_refused_and_does_not_kill_it(tmp_path: Path, left: float) -> None:
    data = fed_store(tmp_path)
    whole = data.read_bytes()
    with reading_process(data.parent) as ask:
        assert ask() == "read\n"
        os.truncate(data, int(len(whole) * left))
        answer = ask()
        assert "cut off" in answer and "remove its folder" in answer
        data.write_bytes(whole)
        assert ask() == "read\n"


def test_a_file_cut_off_to_the_size_of_a_moment_read_before_is_refused(tmp_path: Path) -> None:
    data = fed_store(tmp_path)
    with reading_process(data.parent) as ask:
        assert ask() == "read\n"
        n_bytes = data.stat().st_size
        writer = OnlineStore.open(data.parent, read_only=False)
        with writer.writing() as moment:
            moment.put(VIEWS[0], [f"new {number}" for number in range(100)], [b"x" * 40_000] * 100)
        writer.close()
        grown = data.read_bytes()
        os.truncate(data, n_bytes)
        assert len(grown) > n_bytes and "cut off" in ask()
        data.write_bytes(grown)
        assert ask() == "read\n"


@pytest.mark.parametrize("n_bytes", [0, 1, 4096, 5000, 8192, 20_000])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_cut_off_is_refused_at_open(tmp_path: Path, n_bytes: int, read_only: bool) -> None:
    data = fed_store(tmp_path)
    os.truncate(data, n_bytes)
    if n_bytes == 0 and not read_only:
        OnlineStore.open(data.parent, read_only=False).close()  # a writer makes a store where there is nothing
        return
    with pytest.raises(StoreUnavailable):
        OnlineStore.open(data.parent, read_only=read_only)


def test_last_pages_that_were_freed_again_do_not_look_cut_off(tmp_path: Path) -> None:
    view = VIEWS[0]
    store = OnlineStore.open(tmp_path, read_only=False)
    for n_round in range(6):
        with store.writing() as moment:
            moment.put(view, [f"kept {n_round}"], [b"x" * 3_000])
            moment.set_watermark(view, n_round)
            moment.put(VIEWS[1], [f"freed {n}" for n in range(20)], [b"x" * 40_000] * 20)
            moment.clear(VIEWS[1])
        with store.reading() as moment:
            assert moment.watermark_us(view) == n_round
    store.close()
    OnlineStore.open(tmp_path, read_only=True).close()


def test_a_closed_store_is_refused(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="reading the online store"), store.reading():
        pass


def test_a_transaction_that_does_not_fit_into_the_map_changes_nothing(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False, map_bytes=1 << 20)
    with store.writing() as moment:
        moment.put(VIEWS[0], ["kept"], [b"before"])
        moment.set_mark(VIEWS[0], Mark(1, "x@1"))
    with (
        pytest.raises(StoreUnavailable, match="does not fit into the map of 1,048,576 bytes"),
        store.writing() as moment,
    ):
        moment.put(VIEWS[0], ["kept"], [b"after"])
        moment.put(VIEWS[0], [str(number) for number in range(100)], [b"x" * 100_000] * 100)
    found = store.read([(VIEWS[0], ["kept", "0"])])
    assert found.states == [[b"before", None]] and found.marks == [Mark(1, "x@1")]


def test_keys_of_any_length_and_script_are_kept_apart(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False)
    keys = ["", "x", "x" * 494, "x" * 495, "x" * 5000, "x" * 5001, "\u00ff", "\x1f", "\u98db\u884c\u6a5f" * 200]
    with store.writing() as moment:
        moment.put(VIEWS[0], keys, [f"{place}".encode() for place in range(len(keys))])
        assert moment.states(VIEWS[0], keys) == [f"{place}".encode() for place in range(len(keys))]
        assert moment.states(VIEWS[1], keys) == [None] * len(keys)


def test_what_older_code_declared_is_not_fed_and_can_be_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replace(VIEWS[0])
    store = OnlineStore.open(tmp_path, read_only=False)
    with store.writing() as moment:
        moment.declare(before)
        moment.put(before, ["EWR"], [b"state"])
        moment.set_mark(before, Mark(5, "departed@1"))
    monkeypatch.setattr(view_module, "SEMANTICS", view_module.SEMANTICS + 1)
    now = replace(VIEWS[0])
    with store.writing() as moment:
        assert moment.declared() == {}
        (outdated,) = moment.outdated()
        assert (outdated.version, outdated.name) == (before.version, before.name) and now.version != before.version
        moment.declare(now)
        moment.set_mark(now, Mark(6, "departed@2"))
        assert moment.declared() == {now.digest: now} and moment.outdated() == (outdated,)
        assert moment.states(outdated, ["EWR"]) == [b"state"] and moment.mark(outdated) == Mark(5, "departed@1")
        moment.forget(outdated)
        assert moment.declared() == {now.digest: now} and moment.outdated() == ()
        assert moment.states(outdated, ["EWR"]) == [None] and moment.mark(now) == Mark(6, "departed@2")
    store.close()


def test_declarations_are_kept_until_they_are_forgotten(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False)
    with store.writing() as moment:
        for view in VIEWS:
            moment.declare(view)
            moment.put(view, ["a"], [b"state"])
            moment.set_mark(view, Mark(5, "departed@1"))
        moment.forget(VIEWS[3])
    store.close()
    with OnlineStore.open(tmp_path, read_only=True).reading() as moment:
        assert moment.declared() == {view.digest: view for view in VIEWS if view is not VIEWS[3]}
        assert moment.states(VIEWS[3], ["a"]) == [None] and moment.states(VIEWS[4], ["a"]) == [b"state"]
        assert moment.mark(VIEWS[4]) == Mark(5, "departed@1")
        with pytest.raises(StoreUnavailable, match=VIEWS[3].name):
            moment.mark(VIEWS[3])
