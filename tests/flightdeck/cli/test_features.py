"""`kedro features` on a real log, a real store and real releases."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli import features as command
from flightdeck.cli import features_preview, replay
from flightdeck.cli.feature_readers import Reader, list_readers, views_to_feed
from flightdeck.cli.features import features
from flightdeck.cli.replay_feed import open_feed
from flightdeck.cli.store_lock import CHANGING, FEEDING
from flightdeck.core.clock import SystemClock, to_us
from flightdeck.core.layout import Layout, layout
from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features import view as view_module
from flightdeck.features.plan import FedView, read_fed
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import STREAMS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log
from tests.redis_server import redis_url
from tests.serving.test_versions import NEW, NEW_VIEWS, OLD, seal_new
from tests.serving.world import World

HOUR_US = 60 * MINUTE_US
NOON = "2013-09-12T12:00:00Z"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A data root with a log until noon, and nothing else."""
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    world = World(tmp_path)
    write_log(world.layout.event_log, random_events(5, 400, first_us=NOON_US - 3 * HOUR_US, last_us=NOON_US))
    return world


def kedro_features(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(features, arguments, input=answer)


def declare(monkeypatch: pytest.MonkeyPatch, views: Sequence[FeatureView]) -> None:
    """Let the code declare other views."""
    for module in (command, features_preview, replay):
        monkeypatch.setattr(module, "VIEWS", tuple(views))


def fed() -> dict[str, FedView]:
    store = OnlineStore.open(layout().online_store, read_only=True)
    try:
        return read_fed(store)
    finally:
        store.close()


def test_an_empty_store_is_planned_filled_and_shown(world: World) -> None:
    assert kedro_features("status").exit_code == 1
    assert "kedro features apply" in kedro_features("status").output
    planned = kedro_features("plan").output
    assert "origin_departures" in planned and "to fill: 20 versions" in planned and " kB" in planned
    assert not world.layout.online_store.exists()
    applied = kedro_features("apply")
    assert applied.exit_code == 0 and "20 filled, 0 described anew, 0 unchanged" in applied.output
    assert "nothing to fill" in kedro_features("plan").output
    newest_us = max(
        EventLog(world.layout.event_log).read(stream.name)["created_timestamp"][-1].value for stream in STREAMS
    )
    assert {one.mark.watermark_us for one in fed().values() if one.mark} == {newest_us}
    shown = kedro_features("status").output
    assert VIEWS[0].version in shown and "departed@0" in shown and "nobody reads it" in shown
    assert "0 filled, 0 described anew, 20 unchanged" in kedro_features("apply").output


def test_a_changed_declaration_is_filled_beside_the_old_one_to_the_same_watermark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kedro_features("apply", "--until", NOON)
    before = fed()
    declare(monkeypatch, [NEW, replace(VIEWS[1], owner="someone@else.example"), *VIEWS[2:]])
    planned = kedro_features("plan").output
    assert "new version" in planned and "windows: + 10m, - 30m" in planned
    assert "described anew" in planned and "someone@else.example" in planned
    assert f"no longer declared: {OLD.name}@{OLD.version}, nobody reads it" in planned
    assert "1 filled, 1 described anew, 18 unchanged" in kedro_features("apply").output
    after = fed()
    assert set(after) == {*before, NEW.digest}
    assert {one.mark.watermark_us for one in after.values() if one.mark} == {NOON_US}
    assert after[VIEWS[1].digest].view.owner == "someone@else.example"


def test_versions_of_older_code_are_shown_replaced_and_retired(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kedro_features("apply", "--until", NOON)
    before, other = (f"{view.name}@{view.version}" for view in (OLD, VIEWS[-1]))
    monkeypatch.setattr(view_module, "SEMANTICS", view_module.SEMANTICS + 1)
    declare(monkeypatch, [replace(view) for view in VIEWS])
    assert "new version" in (planned := kedro_features("plan").output) and f"kept, but not fed: {before}" in planned
    assert "means something else now" in planned
    applied = kedro_features("apply", "--until", NOON)
    assert "20 filled" in applied.output and f"kept, but not fed: {before}" in applied.output
    assert kedro_features("materialize").exit_code == 0 and kedro_features("verify", "--rows", "20").exit_code == 0
    assert f"{other} is retired" in kedro_features("retire", other, "--yes").output
    world.release(world.seal())  # of code that knew the versions of before
    assert "version 1 (prod) reads it" in kedro_features("retire", before, "--yes").output
    shown = kedro_features("status").output
    assert f"kept, but not fed: {before}" in shown and f"kept, but not fed: {other}" not in shown


def test_a_version_that_a_release_reads_is_not_retired(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.feed_store(views=(*VIEWS, NEW))
    champion, canary = world.release(world.seal(seed=1)), world.release(seal_new(world), share=0.5)
    old, new = f"{OLD.name}@{OLD.version}", f"{NEW.name}@{NEW.version[:6]}"
    refused = kedro_features("retire", old, "--yes")
    assert refused.exit_code == 1 and f"version {champion} (prod) reads it" in refused.output
    assert f"version {canary} (canary) reads it" in kedro_features("retire", new, "--yes").output
    assert f"version {champion} (prod)" in kedro_features("status").output
    world.promote_canary(canary, seal_new(world))
    assert f"version {champion} (rollback) reads it" in kedro_features("retire", old, "--yes").output
    third = world.release(seal_new(world, seed=3))
    assert f"version {third} (prod), version {canary} (rollback) reads it" in kedro_features("retire", new).output
    assert kedro_features("retire", old, answer="n\n").exit_code == 1
    assert OLD.digest in fed()
    assert f"{OLD.name}@{OLD.version} is retired" in kedro_features("retire", old, answer="y\n").output
    assert OLD.digest not in fed() and NEW.digest in fed()


def test_a_bundle_that_cannot_be_read_may_need_any_version(world: World) -> None:
    world.feed_store(views=(*VIEWS, NEW))
    bundle = world.seal()
    world.release(bundle)
    (bundle.path / "features.json").unlink()
    refused = kedro_features("retire", f"{NEW.name}@{NEW.version}", "--yes")
    assert refused.exit_code == 1 and "cannot be read" in refused.output and "restore the bundle" in refused.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retire", "origin_departures"], "VIEW@VERSION"),
        (["retire", "origin_departure@x"], "did you mean"),
        (["backfill", "origin_departure"], "did you mean 'origin_departures'"),
        (["backfill", "--until", "yesterday"], "2013-09-12T12:00:00Z"),
        (["preview", "origin_departure"], "did you mean 'origin_departures'"),
        (["preview", "nowhere:VIEW"], "module:ATTRIBUTE"),
        (["preview", "pipelines.features.views:OWNER"], "is a str"),
        (["verify", "--engines", "numpi"], "did you mean 'numpy'"),
        (["verify", "--engines", "numpy"], "numpy,online"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(world: World, arguments: list[str], said: str) -> None:
    world.feed_store()
    result = kedro_features(*arguments)
    assert result.exit_code == 1
    assert said in result.output and "next step" in result.output


@pytest.mark.parametrize("path", [[name] for name in features.commands] + [["letters", "replay"]], ids=" ".join)
def test_every_command_takes_an_environment_and_refuses_one_that_is_not_there(world: World, path: list[str]) -> None:
    needed = {"preview": ["airport"], "rebuild": ["latest"], "retire": ["airport@1"], "letters replay": ["departed"]}
    result = kedro_features(*path, *needed.get(" ".join(path), []), "--env", "nowhere")
    assert result.exit_code == 1
    assert "no environment 'nowhere'" in result.output and "next step" in result.output


def test_an_environment_is_that_of_the_ledger_too_and_ends_with_the_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def look(where: Layout) -> list[Reader]:
        seen.append(os.environ.get("KEDRO_ENV"))
        return list_readers(where)

    monkeypatch.setattr(command, "list_readers", look)
    assert kedro_features("plan", "--env", "test").exit_code == 0
    assert seen == ["test"] and "KEDRO_ENV" not in os.environ


def test_without_a_log_the_next_step_is_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    for name in ("plan", "apply", "backfill"):
        result = kedro_features(name)
        assert result.exit_code == 1 and "kedro run --pipelines ingestion" in result.output


def test_engines_agree_and_a_changed_state_is_found_with_exit_code_3(world: World) -> None:
    kedro_features("apply", "--until", NOON)
    agreed = kedro_features("verify", "--rows", "60")
    assert agreed.exit_code == 0 and "no mismatch" in agreed.output
    store = OnlineStore.open(world.layout.online_store, read_only=False)
    with store.writing() as moment:
        ewr, jfk = moment.states(OLD, ["EWR", "JFK"])
        assert ewr is not None and jfk is not None
        moment.put(OLD, ["EWR", "JFK"], [jfk, ewr])
    store.close()
    differing = kedro_features("verify", "--rows", "60")
    assert differing.exit_code == 3 and f"{OLD.name}@{OLD.version}" in differing.output
    assert kedro_features("backfill", OLD.name).exit_code == 0
    assert kedro_features("verify", "--rows", "60").exit_code == 0


def test_versions_of_one_view_are_verified_each_by_its_own_declaration(world: World) -> None:
    world.feed_store(views=(*VIEWS, NEW))
    agreed = kedro_features("verify", "--rows", "30")
    assert agreed.exit_code == 0 and NEW.version in agreed.output and OLD.version in agreed.output


def test_a_backfill_goes_back_and_forth_in_time(world: World) -> None:
    kedro_features("apply", "--until", NOON)
    assert kedro_features("backfill", "--until", "2013-09-12T10:00:00").exit_code == 0
    assert {one.mark.watermark_us for one in fed().values() if one.mark} == {NOON_US - 2 * HOUR_US}
    assert kedro_features("verify", "--rows", "20").exit_code == 0
    before = int(datetime.now(UTC).timestamp() * 1e6)
    kedro_features("backfill", "--until", "now")
    assert all(one.mark and one.mark.watermark_us >= before for one in fed().values())


def test_a_view_is_previewed_by_name_or_by_module(world: World) -> None:
    named = kedro_features("preview", "origin_departures", "--rows", "5")
    assert named.exit_code == 0 and "EWR" in named.output and "count_30m" in named.output
    shown = kedro_features("preview", "tests.serving.test_versions:NEW")
    assert shown.exit_code == 0 and "count_10m" in shown.output and NEW.version in shown.output


@pytest.mark.parametrize("width", [80, 100, 200])
def test_tables_cut_nothing_off_on_a_narrow_screen(world: World, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = kedro_features("preview", "origin_departures", "--rows", "3").output
    newest = EventLog(world.layout.event_log).read("departed")["created_timestamp"][-1].as_py()
    assert f"{newest:%Y-%m-%d %H:%M:%S} │" in shown and "more features" not in shown
    planned = kedro_features("plan").output
    assert f"{VIEWS[2].name}@{VIEWS[2].version} │ new" in planned
    for output in (shown, planned.partition("to fill")[0]):
        assert "\u2026" not in output and max(map(len, output.splitlines())) <= width


def test_the_plan_of_an_empty_redis_is_to_fill_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_url() as url:
        monkeypatch.setenv("FLIGHTDECK_ONLINE_STORE", url)
        assert "to fill: 20 versions" in kedro_features("plan").output
        assert kedro_features("apply").exit_code == 0
        assert "nothing to fill" in kedro_features("plan").output


def test_materializing_brings_a_store_up_to_what_has_come(world: World) -> None:
    kedro_features("apply", "--until", "2013-09-12T10:00:00Z")
    fed_on = kedro_features("materialize")
    assert fed_on.exit_code == 0 and "transactions" in fed_on.output
    assert all(one.mark and one.mark.watermark_us >= NOON_US for one in fed().values())
    assert kedro_features("verify", "--rows", "30").exit_code == 0


def test_a_standby_shows_its_metrics_while_it_waits(world: World) -> None:
    kedro_features("apply")
    command = [sys.executable, "-c", "from flightdeck.cli.features import features; features()", "materialize"]
    with (world.layout.online_store / FEEDING).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(
            [*command, "--follow", "--metrics-port", "0"], stderr=subprocess.PIPE, text=True
        ) as waiting:
            assert waiting.stderr is not None
            said = [waiting.stderr.readline(), waiting.stderr.readline()]
            (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", " ".join(said))
            text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            waiting.terminate()
    assert "standing by" in " ".join(said)
    assert "flightdeck_feed_feeding 0.0" in text and "flightdeck_feed_available 1.0" in text


def test_materializing_nothing_or_from_nowhere_says_what_to_do(world: World) -> None:
    assert "kedro features apply" in kedro_features("materialize").output
    kedro_features("apply")
    refused = kedro_features("materialize", "--source", "redis")
    assert refused.exit_code == 1 and "stores.yml" in refused.output


@pytest.mark.parametrize(
    ("lock", "arguments"),
    [(CHANGING, ["apply"]), (CHANGING, ["backfill"]), (CHANGING, ["retire", "a@b"]), (FEEDING, ["materialize"])],
)
def test_two_at_once_are_told_so(world: World, lock: str, arguments: list[str]) -> None:
    world.feed_store()
    with (world.layout.online_store / lock).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = kedro_features(*arguments)
        assert result.exit_code == 1 and "another" in result.output and "next step" in result.output


def test_a_replay_feeds_what_releases_read_beside_what_is_declared(world: World) -> None:
    world.feed_store()
    world.release(world.seal(seed=1))
    world.release(seal_new(world), share=0.5)
    readers = list_readers(world.layout)
    assert [(reader.version, reader.stage) for reader in readers] == [(1, "prod"), (2, "canary")]
    views = views_to_feed(VIEWS, readers)
    assert {view.digest for view in views} == {view.digest for view in (*VIEWS, *NEW_VIEWS)}
    retired_by_nobody = replace(VIEWS[-1], ttl_s=5)
    store = OnlineStore.open(world.layout.online_store, read_only=False)
    with store.writing() as moment:
        moment.declare(retired_by_nobody)
    store.close()
    log = EventLog(world.layout.event_log)
    with open_feed(log, world.layout.online_store, views, NOON_US - HOUR_US, NOON_US) as feed:
        feed.advance_to(NOON_US - HOUR_US // 2)
        feed.advance_to(NOON_US)
    found = fed()
    assert set(found) == {view.digest for view in (*views, retired_by_nobody)}
    assert {one.mark.watermark_us for one in found.values() if one.mark} == {NOON_US}
    assert kedro_features("verify", "--rows", "30").exit_code == 0


def test_a_former_champion_that_a_segment_names_is_still_a_reader(world: World) -> None:
    first = world.seal(seed=1)
    world.release(first)
    for seed in (2, 3):
        world.release(world.seal(seed=seed))
    rules = {"segments": [{"name": "EWR", "where": {"origin": ["EWR"]}, "champion": 1}]}
    detail = {"rules": rules, "digests": {"1": first.digest}, "versions": [1], "what": "segment EWR"}
    world.ledger.append("routed", actor="test", subject="-", detail=detail)
    readers = list_readers(world.layout)
    assert [(reader.version, reader.stage) for reader in readers] == [(3, "prod"), (1, "routed"), (2, "rollback")]
    assert all(reader.digests for reader in readers)


def test_old_bundles_without_declarations_are_still_known_as_readers(world: World) -> None:
    world.feed_store()
    files = {"views": {OLD.name: OLD.digest}, "numeric": [], "nodes": {}}
    world.release(world.seal(features=files))
    (reader,) = list_readers(world.layout)
    assert reader.views == () and reader.digests == {OLD.name: OLD.digest}
    assert "version 1 (prod) reads it" in kedro_features("retire", f"{OLD.name}@{OLD.version}", "--yes").output


def test_a_store_is_not_filled_into_the_future(world: World) -> None:
    kedro_features("apply", "--until", NOON)
    refused = kedro_features("backfill", "--until", "2999-01-01")
    assert refused.exit_code == 1
    assert "lies in the future" in refused.output and "write now" in refused.output
    assert {one.mark.watermark_us for one in fed().values() if one.mark} == {NOON_US}
    before_us = to_us(SystemClock().now())
    assert kedro_features("backfill", "--until", "now").exit_code == 0
    assert all(before_us <= one.mark.watermark_us <= to_us(SystemClock().now()) for one in fed().values() if one.mark)


def test_a_store_that_was_filled_into_the_future_is_brought_back_by_a_backfill(world: World) -> None:
    kedro_features("apply", "--until", NOON)
    store = OnlineStore.open(world.layout.online_store, read_only=False)
    ahead_us = to_us(datetime(2999, 1, 1, tzinfo=UTC))
    with store.writing() as moment:
        for view in VIEWS:
            moment.set_mark(view, replace(moment.mark(view), watermark_us=ahead_us))
    store.close()
    assert kedro_features("backfill").exit_code == 0
    assert all(one.mark.watermark_us <= to_us(SystemClock().now()) for one in fed().values() if one.mark)


@pytest.mark.parametrize("offset", ["", "departed@7-0", "departed@0#000000000000"])
def test_the_advice_to_a_feed_that_cannot_go_on_lets_it_go_on(world: World, offset: str) -> None:
    kedro_features("apply", "--until", NOON)
    log = EventLog(world.layout.event_log)
    unknown = offset or "none"
    rest = " ".join(f"{stream.name}@0" for stream in STREAMS if not unknown.startswith(stream.name))
    store = OnlineStore.open(world.layout.online_store, read_only=False)
    with store.writing() as moment:
        for view in VIEWS:
            moment.set_mark(view, replace(moment.mark(view), offset=f"{offset} {rest}" if offset else ""))
    store.close()
    stopped = kedro_features("materialize")
    assert stopped.exit_code == 1
    (advice,) = set(re.findall(r"kedro features (\w+)", stopped.output.partition("next step")[2]))
    assert kedro_features(advice).exit_code == 0
    fed_on = kedro_features("materialize")
    assert fed_on.exit_code == 0, fed_on.output
    assert {versions_of(one.mark.offset).get("departed", 0) for one in fed().values() if one.mark} == {
        log.version("departed").version
    }
