"""Who feeds which partition: leases that end by themselves, fenced by an epoch that grows with every new writer.

A consumer takes its fair share of the partitions (all of them when it is alone) and renews its leases while it works.
When it dies, its leases end and the others take the partitions over; if it was only slow, its next transaction finds a
newer epoch and writes nothing. An epoch is at least the server's time in microseconds, so none comes a second time in a
database that was emptied: who holds entries from before sees that another filling may have counted them.
"""

import time

from flightdeck.features.redis_keys import CONSUMERS, PAUSE, epoch_key, owner_key
from flightdeck.features.redis_nodes import RedisNodes

_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = redis.call('TIME')
local epoch = math.max(redis.call('INCR', KEYS[2]), now[1] * 1000000 + now[2])
redis.call('SET', KEYS[2], string.format('%.0f', epoch))
return epoch
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Leases:
    """The partitions that one consumer feeds.

    Parameters
    ----------
    nodes
        Connections.
    partitions
        Those that it may feed.
    name
        Name of the consumer, of this process alone.
    lease_s
        Life of a lease that is not renewed: after so long a dead consumer is replaced.
    """

    def __init__(self, nodes: RedisNodes, partitions: tuple[int, ...], name: str, lease_s: float) -> None:
        self._nodes = nodes
        self._partitions = partitions
        self.name = name.encode()
        self.lease_ms = int(lease_s * 1000)
        self.epochs: dict[int, int] = {}
        self._due_s = 0.0

    def drop(self, partition: int) -> None:
        """Stop believing in a lease that a transaction found lost; look for partitions at the next refresh."""
        self.epochs.pop(partition, None)
        self._due_s = 0.0

    def refresh(self) -> None:
        """Renew what is held, take what is free, give back what is more than the share; cheap until it is due."""
        if self.epochs and time.monotonic() < self._due_s:
            return
        with self._nodes.asking("leasing partitions in"):
            if self._nodes.of(PAUSE).execute_command("EXISTS", PAUSE):
                self.release()
                return
            share = -(-len(self._partitions) // self._n_consumers())
            for partition, epoch in list(self.epochs.items()):
                if not self._run(_RENEW, partition, self.lease_ms, epoch):
                    del self.epochs[partition]
            for partition in list(self.epochs)[share:]:
                self._run(_RELEASE, partition)
                del self.epochs[partition]
            for partition in self._partitions:
                if len(self.epochs) < share and partition not in self.epochs:
                    epoch = self._run(_TAKE, partition, self.lease_ms)
                    if epoch:
                        self.epochs[partition] = epoch
        self._due_s = time.monotonic() + self.lease_ms / 3000

    def release(self) -> None:
        """Give everything back at once."""
        for partition in self.epochs:
            self._run(_RELEASE, partition)
        self.epochs = {}

    def leave(self) -> None:
        """Give everything back and count no more among the consumers."""
        self.release()
        self._nodes.of(CONSUMERS).execute_command("ZREM", CONSUMERS, self.name)

    def _n_consumers(self) -> int:
        """Say that this one lives, and return how many do; the time is the server's."""
        client = self._nodes.of(CONSUMERS)
        seconds, micros = client.execute_command("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        with client.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("ZREMRANGEBYSCORE", CONSUMERS, "-inf", now_ms - self.lease_ms)
            pipeline.execute_command("ZADD", CONSUMERS, now_ms, self.name)
            pipeline.execute_command("ZCARD", CONSUMERS)
            return int(pipeline.execute()[-1])

    def _run(self, script: str, partition: int, *arguments: int) -> int:
        client = self._nodes.of_partition(partition)
        keys = (owner_key(partition), epoch_key(partition))
        return int(client.execute_command("EVAL", script, 2, *keys, self.name, *arguments))
