"""The online benchmark reports its weakest ratio, and its Redis server ends with the measurement."""

import shutil

import pytest
import redis

from benchmarks.bench_online_read import Cost, report
from benchmarks.redis_server import redis_server


def test_the_ratio_is_the_lowest_that_could_be_named() -> None:
    costs = {
        ("embedded", 1): Cost(20.0, 25.0),
        ("feast_sqlite", 1): Cost(400.0, 400.0),
        ("redis", 1): Cost(50.0, 90.0),
        ("feast_redis", 1): Cost(400.0, 540.0),
        ("embedded", 50): Cost(200.0, 200.0),
        ("feast_sqlite", 50): Cost(4000.0, 4400.0),
        ("redis", 50): Cost(300.0, 300.0),
        ("feast_redis", 50): Cost(3000.0, 3000.0),
    }
    told = dict(report(costs))
    assert (told["read_us_1"], told["read_us_50"]) == (25.0, 200.0)
    assert told["ratio_feast_sqlite"] == told["ratio_feast_sqlite_wall_1"] == 16.0
    assert told["ratio_feast_redis"] == told["ratio_feast_redis_wall_1"] == 6.0
    assert told["ratio_feast_redis_cpu_50"] == 10.0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_the_server_answers_and_ends_with_the_block() -> None:
    with redis_server() as port:
        client = redis.Redis(port=port)
        assert client.ping()
        assert client.config_get("save") == {"save": ""}
        client.close()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=port).ping()
