"""A log and a store in Redis that follows it, moved by hand: append, publish, follow; then compare with the log."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from flightdeck.core.clock import VirtualClock, from_us
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.events.stream import INSTANT, Stream
from flightdeck.features.aggregates import count, total
from flightdeck.features.audit import recompute
from flightdeck.features.follower import Follower, Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.redis_publish import RedisPublisher
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.redis_stream import RedisConsumer
from flightdeck.features.view import FeatureView, windowed
from tests.event_streams import MINUTE_US, NOON_US

SOLD = Stream("sold", {"origin": pa.string(), "price": pa.int64()}, slo_s=60)
SHOPS = [f"shop {number}" for number in range(20)]
ASKED = {"origin": np.array([*SHOPS, "no shop", ""], dtype=object)}
COUNTED = FeatureView("counted", ("origin",), "sold", windowed(count(), over="1h"), owner="me")
ADDED = FeatureView("added", ("origin",), "sold", windowed(count(), total("price"), over="1h"), owner="me")
LEASE_S = 5.0


def sold(name: str, known_us: int, shops: list[str] | None = None) -> pa.Table:
    """Return one sale in each shop, of ids that begin with `name`, a microsecond after the other from `known_us`."""
    chosen = SHOPS if shops is None else shops
    at = pa.array(known_us + np.arange(len(chosen))).cast(INSTANT)
    values = {"event_id": [f"{name} {number}" for number in range(len(chosen))], "source": ["till"] * len(chosen)}
    times = {"event_timestamp": at, "created_timestamp": at, "source_offset": np.arange(len(chosen))}
    return SOLD.cast(pa.table({**values, **times, "origin": chosen, "price": [7] * len(chosen)}))


@dataclass
class RedisFeed:
    """A log with one sale in each shop before noon, and a store that is filled until noon with `COUNTED`."""

    url: str
    folder: Path
    log: EventLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = EventLog(self.folder / "log")
        self.log.append(SOLD, sold("first", NOON_US - MINUTE_US))
        self.fill(COUNTED, NOON_US)

    def fill(self, view: FeatureView, until_us: int) -> int:
        """Fill a version; return until when it was."""
        store = RedisStore.open(self.url, read_only=False)
        reached_us = Materializer(store, [view]).backfill(self.log, until_us).watermark_us
        store.close()
        return reached_us

    def publish(self, events: pa.Table, watermark_us: int | None = None, *, is_new: bool = True) -> None:
        """Append events to the log, if they are new, and publish them."""
        if is_new and events.num_rows:
            self.log.append(SOLD, events)
        publisher = RedisPublisher.open(self.url)
        publisher.publish("sold", events, watermark_us)
        publisher.close()

    def follower(self, *, max_events: int = 1000, partitions: tuple[int, ...] | None = None) -> Follower:
        """Return one that follows the streams, or those of some partitions."""
        consumer = RedisConsumer.open(self.url, lease_s=LEASE_S, partitions=partitions)
        taking = Reception(DeadLetters(self.folder / "letters"), SchemaHistory(self.folder / "schemas"))
        clock = VirtualClock(from_us(NOON_US + 60 * MINUTE_US))
        pace = Pace(max_events=max_events, max_wait_s=0.02)
        return Follower(consumer, consumer.store, [SOLD], taking, pace=pace, clock=clock)

    def follow(self, partitions: tuple[int, ...] | None = None) -> int:
        """Apply all that waits; return how many events that were."""
        return self.follower(partitions=partitions).run(until_idle=True).n_applied

    def served(self, *views: FeatureView, at_us: int = 0) -> OnlineFeatures:
        """Read all shops."""
        store = RedisStore.open(self.url, read_only=True)
        found = OnlineReader(store, views).read(ASKED, at_us)
        store.close()
        return found

    def require_log(self, watermark_us: int, *views: FeatureView) -> None:
        """Compare what is served with what the log knows at `watermark_us`, which all views must have reached."""
        found, n_rows = self.served(*views), len(ASKED["origin"])
        assert found.watermark_us == found.at_us == watermark_us
        at_us = np.full(n_rows, watermark_us)
        for name, values in recompute(views, self.log, ASKED, at_us, at_us).items():
            np.testing.assert_array_equal(found.columns[name], values, err_msg=name)
