"""Events a second that one consumer applies to Redis, three views each: from the Redis stream to readable states.

Events, views and the filling of the windows are those of `stream_embedded.py`. All that a live consumer does is
measured: reading and decoding entries, leaving out events that were applied before, states, marks, ids and
acknowledgement in one transaction. Events a second are per second of CPU of the consumer's process; the CPU of the
server, which is another core's work, is told apart. What contracts cost is not in it.
"""

import json
import time
from typing import Any

import numpy as np

from benchmarks.redis_server import redis_server
from benchmarks.stream_embedded import EVENTS_PER_S, FILL_US, FIRST_US, VIEWS, Clicks
from flightdeck.features.follower import Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.redis_publish import RedisPublisher
from flightdeck.features.redis_stream import RedisConsumer
from flightdeck.features.stores import Mark


def redis_events_per_s(n_events: int = 400_000, batch: int = Pace.max_events) -> dict[str, float]:
    """Return events a second of CPU, the server's share, and what a key takes.

    Returns
    -------
    dict
        `redis_events_per_s` (per CPU second of the consumer), `redis_wall_events_per_s`, `redis_client_cpu_s`,
        `redis_server_cpu_s`, `redis_bytes_per_key` (name, state and overhead), `redis_bytes_per_seen_id`.
    """
    clicks = Clicks(seed=1)
    n_batches = n_events // batch
    start_us, span_us = FIRST_US + FILL_US + n_events, batch * 1_000_000 // EVENTS_PER_S
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        publisher, consumer = RedisPublisher.open(url), RedisConsumer.open(url)
        client = consumer.store.nodes.of_partition(0)
        with consumer.store.writing() as moment:
            for view in VIEWS:
                moment.declare(view)
                moment.set_mark(view, Mark(FIRST_US))
        for place in range(n_batches):
            publisher.publish("clicks", clicks.make(batch, FIRST_US + place, FILL_US), start_us - 1)
        _follow(consumer, batch)
        for place in range(n_batches):
            events = clicks.make(batch, start_us + place * span_us, span_us)
            publisher.publish("clicks", events, start_us + (place + 1) * span_us)
        server_s, cpu_s, wall_s = _server_cpu_s(client), time.process_time(), time.perf_counter()
        n_applied = _follow(consumer, batch)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        server_s = _server_cpu_s(client) - server_s
        result = {
            "redis_events_per_s": round(n_applied / cpu_s),
            "redis_wall_events_per_s": round(n_applied / wall_s),
            "redis_client_cpu_s": round(cpu_s, 3),
            "redis_server_cpu_s": round(server_s, 3),
            "redis_bytes_per_key": round(float(np.mean(_sizes(client, "fd:{p0}:s:*"))), 1),
            "redis_bytes_per_seen_id": round(sum(_sizes(client, "fd:{p0}:e:*")) / (2 * n_applied), 1),
        }
        consumer.close()
        publisher.close()
    return result


def _follow(consumer: RedisConsumer, batch_events: int) -> int:
    """Apply all that waits; return how many events that were."""
    materializer, n_applied = Materializer(consumer.store), 0
    while consumer.acquire(1.0) and (batch := consumer.poll(batch_events, 0.0)) is not None:
        with consumer.applying(batch) as moment:
            done = materializer.apply_within(moment, batch.events, batch.watermark_us or 0, batch.offset)
        n_applied += done.n_events
    return n_applied


def _server_cpu_s(client: Any) -> float:
    told = client.execute_command("INFO", "cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def _sizes(client: Any, pattern: str) -> list[int]:
    """Return the memory of each key that fits a pattern."""
    sizes: list[int] = []
    cursor = 0
    while True:
        cursor, keys = client.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.execute_command("MEMORY", "USAGE", key)
            sizes += pipeline.execute()
        if not cursor:
            return sizes


if __name__ == "__main__":
    print(json.dumps(redis_events_per_s()))
