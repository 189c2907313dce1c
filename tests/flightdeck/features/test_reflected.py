"""Answers of a store whose partitions are at different moments: each value is what the log knew at its own moment."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flightdeck.events.log import EventLog
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.reflected import reflected_us
from flightdeck.features.verification import verify_online
from flightdeck.monitoring.skew import ServedModel, SkewAudit, audit_skew
from tests.event_streams import MINUTE_US, NOON_US
from tests.flightdeck.features.redis_feed import ADDED, ASKED, COUNTED, SHOPS, RedisFeed, sold
from tests.flightdeck.monitoring.samples import prediction_rows
from tests.redis_server import redis_url

VIEWS = (COUNTED, ADDED)
N_PARTITIONS = 4
COLUMNS = [name for view in VIEWS for name in view.columns]
MODEL = ServedModel(tuple(COLUMNS), VIEWS, lambda request, views: views.astype(np.float32))


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[RedisFeed]:
    with redis_url() as url:
        yield RedisFeed(f"{url}?partitions={N_PARTITIONS}", tmp_path)


def answered(feed: RedisFeed) -> pd.DataFrame:
    """Return what the prediction log keeps of one answer for all shops."""
    found, n_rows = feed.served(*VIEWS, at_us=NOON_US), len(ASKED["origin"])
    return prediction_rows(
        n_rows,
        origin=ASKED["origin"],
        feature_us=found.at_us,
        watermark_us=found.watermark_us,
        feature_offset=found.offset,
        bundle_digest="d" * 64,
        features=list(np.stack([found.columns[name] for name in COLUMNS], axis=1).astype(np.float32)),
    )


def mismatches(feed: RedisFeed) -> dict[str, int]:
    store = RedisStore.open(feed.url, read_only=True)
    found = verify_online(store, VIEWS, feed.log, dict(ASKED))
    store.close()
    assert all(one.n_known for one in found)
    return {name: n for one in found for name, n in one.mismatches.items()}


def test_each_value_is_recomputed_at_the_moment_of_its_partition(feed: RedisFeed) -> None:
    feed.fill(ADDED, NOON_US)
    for number in range(1, 4):
        feed.publish(sold(f"sale {number}", NOON_US + number * MINUTE_US + 1), NOON_US + (number + 1) * MINUTE_US)
        feed.follow(partitions=(number,))
    found = feed.served(*VIEWS)
    assert found.watermark_us == NOON_US and found.at_us == NOON_US + 4 * MINUTE_US
    assert found.offset.endswith(f"ahead/4:1+{2 * MINUTE_US},2+{3 * MINUTE_US},3+{4 * MINUTE_US}")
    assert mismatches(feed) == {}


def test_a_version_that_is_ahead_of_others_is_recomputed_at_its_own_moment(feed: RedisFeed) -> None:
    feed.publish(sold("sale", NOON_US + MINUTE_US))
    feed.fill(ADDED, NOON_US + 2 * MINUTE_US)
    found = feed.served(*VIEWS)
    assert found.offset.count(f".{ADDED.digest[:8]}+{2 * MINUTE_US}") == N_PARTITIONS
    assert mismatches(feed) == {}
    one = {"origin": ASKED["origin"][:1]}  # all of one partition
    store = RedisStore.open(feed.url, read_only=True)
    assert [dict(each.mismatches) for each in verify_online(store, VIEWS, feed.log, one)] == [{}, {}]
    store.close()


def test_a_wrong_state_is_found_while_partitions_differ(feed: RedisFeed) -> None:
    feed.fill(ADDED, NOON_US)
    feed.publish(sold("sale", NOON_US + MINUTE_US, SHOPS[3:]), NOON_US + 2 * MINUTE_US)
    feed.follow(partitions=(1, 2))
    assert mismatches(feed) == {}
    store = RedisStore.open(feed.url, read_only=False)
    with store.writing() as moment:
        (state,) = moment.states(COUNTED, ["no shop"])
        (other,) = moment.states(COUNTED, SHOPS[:1])
        assert state is None and other is not None
        moment.put(COUNTED, ["no shop"], [other])
    store.close()
    assert mismatches(feed) == {"counted__count_60m": 2}  # now and in five minutes; in an hour nothing is in the window


def test_the_prediction_log_of_a_day_has_no_skew_but_for_a_value_that_was_changed(feed: RedisFeed) -> None:
    feed.fill(ADDED, NOON_US)
    chance = random.Random(1)
    frames = []
    for number in range(1, 9):
        shops = chance.sample(SHOPS, 12)
        feed.publish(
            sold(f"sale {number}", NOON_US + number * MINUTE_US + 1, shops), NOON_US + (number + 1) * MINUTE_US
        )
        feed.follow(partitions=tuple(chance.sample(range(N_PARTITIONS), 2)))
        frames.append(answered(feed))
    rows = pd.concat(frames, ignore_index=True)
    assert sum("ahead/" in offset for offset in rows["feature_offset"].unique()) > 4
    healthy = skew(rows, feed.log)
    assert (healthy.n_mismatched, healthy.n_audited, healthy.n_compared) == (0, len(rows), 3 * len(rows))
    vector = rows["features"][7].copy()
    vector[1] += 1
    rows.at[7, "features"] = vector
    assert skew(rows, feed.log).n_mismatched == 1


def skew(rows: pd.DataFrame, log: EventLog) -> SkewAudit:
    return audit_skew(rows, served={"d" * 64: MODEL}, log=log)


def test_an_offset_without_partitions_says_the_watermark_of_all() -> None:
    for offset in ("", "sold@3", "0:1795596557092-0"):
        found = reflected_us(offset, np.array([5, 6]), VIEWS, {"origin": ASKED["origin"][:2]})
        assert [values.tolist() for values in found.values()] == [[5, 6], [5, 6]]
