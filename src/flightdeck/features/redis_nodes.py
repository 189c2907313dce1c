"""Reaching Redis: one server or a cluster behind one face, short timeouts, and errors that say what to do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from flightdeck.core.errors import ConfigError, StoreUnavailable, nearest
from flightdeck.features.redis_keys import MAX_PARTITIONS, epoch_key
from flightdeck.features.redis_parser import bound_answers

CONNECT_MS = 50
READ_MS = 100
WRITE_MS = 5_000
_OPTIONS = ("partitions", "expire", "connect_ms", "read_ms")
_EXAMPLE = "write redis://host:6379/0?partitions=1 or redis+cluster://host:6379,host:6380?partitions=12"
Command = tuple[Any, ...]
ERRORS = (redis.RedisError, redis.exceptions.RedisClusterException)  # the latter is no RedisError


class LeaseLost(StoreUnavailable):
    """Another writer has taken the partition over; nothing was written."""


class RedisAway(StoreUnavailable):
    """No answer, or the partition has moved to another node; worth a second try."""


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is and how to use it.

    Parameters
    ----------
    hosts
        Host and port; several only for a cluster.
    is_cluster
        Whether it is a cluster.
    login
        Arguments of the client: user, password, database, TLS.
    n_partitions
        Partitions of a store that is made here; 0 where the store itself must say.
    is_expiring
        Whether idle states vanish by the wall clock; right for a live store, wrong for a replay.
    connect_ms, read_ms
        Longest wait for a connection and for an answer; a writer waits longer for an answer.
    """

    hosts: tuple[tuple[str, int], ...]
    is_cluster: bool
    login: tuple[tuple[str, Any], ...]
    n_partitions: int = 0
    is_expiring: bool = False
    connect_ms: int = CONNECT_MS
    read_ms: int = READ_MS

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Return the address that a URL describes.

        Raises
        ------
        ConfigError
            If it is no Redis URL or has an unknown option.

        Examples
        --------
        >>> address = RedisAddress.parse("redis+cluster://one:7000,two:7001?partitions=12&expire=1")
        >>> address.hosts, address.n_partitions, address.is_expiring
        ((('one', 7000), ('two', 7001)), 12, True)
        """
        parts = urlsplit(url)
        login, _, places = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        try:
            hosts = tuple(
                (host, int(port or 6379)) for host, _, port in (place.partition(":") for place in places.split(","))
            )
            options = {
                name: int(values[-1])
                for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
            }
            database = int(parts.path.strip("/") or 0)
        except ValueError as error:
            raise ConfigError(f"reading the address of Redis: {error}", next_step=_EXAMPLE) from error
        unknown = [f"{name!r}{nearest(name, _OPTIONS)}" for name in options if name not in _OPTIONS]
        is_cluster = parts.scheme == "redis+cluster"
        n_partitions = options.get("partitions", 0)
        if unknown or not 0 <= n_partitions <= MAX_PARTITIONS or (is_cluster and database):
            what = (
                f"unknown option {', '.join(unknown)}" if unknown else f"{n_partitions} partitions, database {database}"
            )
            raise ConfigError(f"reading the address of Redis: {what}", next_step=_EXAMPLE)
        arguments: dict[str, Any] = {} if is_cluster else {"db": database, "ssl": parts.scheme == "rediss"}
        if login:
            arguments |= {"username": unquote(user) or None, "password": unquote(password)}
        waits = {name: options[name] for name in ("connect_ms", "read_ms") if name in options}
        return cls(hosts, is_cluster, tuple(arguments.items()), n_partitions, bool(options.get("expire", 0)), **waits)


class RedisNodes:
    """Clients of all nodes.

    Parameters
    ----------
    address
        Where Redis is.
    read_only
        Whether this process only reads: it gives up sooner.
    """

    def __init__(self, address: RedisAddress, *, read_only: bool) -> None:
        self.address = address
        arguments: dict[str, Any] = {
            **dict(address.login),
            "socket_connect_timeout": address.connect_ms / 1e3,
            "socket_timeout": (address.read_ms if read_only else max(WRITE_MS, address.read_ms)) / 1e3,
            "protocol": 2,
        }
        self._cluster: RedisCluster | None = None
        if address.is_cluster:
            places = [ClusterNode(host, port) for host, port in address.hosts]
            with self.asking("connecting to"):
                self._cluster = RedisCluster(startup_nodes=places, cluster_error_retry_attempts=1, **arguments)
            for node in self._cluster.get_nodes():
                bound_answers(self._cluster.get_redis_connection(node))
            self._only = None
        else:
            (host, port), *_ = address.hosts
            # a reader asks once more after a lost connection: a server that was restarted answers the second time;
            # a writer must not, as what was read for a lost answer waits for it among the pending entries
            retry = Retry(NoBackoff(), int(read_only))
            # a reader keeps one connection: taking one from the pool and giving it back costs a quarter of a read
            with self.asking("connecting to"):
                self._only = redis.Redis(
                    host=host, port=port, retry=retry, single_connection_client=read_only, **arguments
                )
            bound_answers(self._only)

    @property
    def is_cluster(self) -> bool:
        """Whether partitions may lie on different nodes."""
        return self._cluster is not None

    def of(self, key: bytes) -> "redis.Redis":
        """Return the client of the node that holds a key."""
        if self._cluster is None:
            return self._only
        node = self._cluster.get_node_from_key(key)
        return self._cluster.get_redis_connection(node)

    def of_partition(self, partition: int) -> "redis.Redis":
        """Return the client of the node that holds a partition."""
        return self.of(epoch_key(partition))

    def rooms(self, partitions: Sequence[int]) -> list[tuple[int, ...]]:
        """Return partitions in groups that one command or transaction may span."""
        return [(partition,) for partition in partitions] if self.is_cluster else [tuple(partitions)]

    def ask(self, questions: Sequence[tuple[int, Command]]) -> list[Any]:
        """Return the answers to some commands, each for a partition: one round trip per node.

        Notes
        -----
        A single command, or several on one node, is one round trip; several nodes are all asked before the first
        answer is read.
        """
        if len(questions) == 1:
            partition, command = questions[0]
            client = self._only or self.of_partition(partition)
            return [client.execute_command(*command)]
        places: dict[int, tuple[redis.Redis, list[int]]] = {}
        for place, (partition, _) in enumerate(questions):
            client = self.of_partition(partition)
            places.setdefault(id(client), (client, []))[1].append(place)
        answers: list[Any] = [None] * len(questions)
        with ExitStack() as stack:
            asked = []
            for client, wanted in places.values():
                connection = stack.enter_context(_one_connection(client))
                connection.send_packed_command(connection.pack_commands([questions[place][1] for place in wanted]))
                asked.append((client, connection, wanted))
            for client, connection, wanted in asked:
                for place in wanted:
                    answers[place] = client.parse_response(connection, questions[place][1][0])
        return answers

    @contextmanager
    def asking(self, doing: str) -> Iterator[None]:
        """Turn errors of Redis into `StoreUnavailable` with advice."""
        try:
            yield
        except redis.exceptions.WatchError as error:
            raise LeaseLost(
                f"{doing} Redis at {self.address}: another writer came in between, nothing was written",
                next_step="this consumer goes on with the partitions that it still holds; one writer feeds a partition",
            ) from error
        except redis.exceptions.ResponseError as error:
            self._forget_places(error)
            what = f"{doing} Redis at {self.address}: {error}"
            if isinstance(error, redis.exceptions.AskError):  # MovedError is one
                raise RedisAway(
                    what, next_step="the slots are being moved; it is tried again at the next call"
                ) from error
            raise StoreUnavailable(what, next_step=_advice(str(error))) from error
        except (*ERRORS, OSError) as error:
            self._forget_places(error)
            raise RedisAway(
                f"{doing} Redis at {self.address}: {type(error).__name__}: {error}",
                next_step="see that the server runs and is reachable; it is tried again at the next call",
            ) from error

    def close(self) -> None:
        """Close all connections; closing again does nothing."""
        if self._only is not None:
            self._only.close()
        if self._cluster is not None:
            self._cluster.close()

    def _forget_places(self, error: Exception) -> None:
        """Ask the cluster again who holds what, where an answer or a lost node says that it changed."""
        if self._cluster is None or not isinstance(
            error, (redis.exceptions.MovedError, redis.exceptions.ConnectionError)
        ):
            return
        try:
            self._cluster.nodes_manager.initialize()
        except ERRORS:
            return  # it is down as a whole; the next call asks again


@contextmanager
def _one_connection(client: "redis.Redis") -> Iterator[Any]:
    """Give a connection of a client; after an error it is closed, since answers may be left on it."""
    connection = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)


def _advice(error: str) -> str:
    if "OOM" in error:
        return "give Redis more memory or retire versions of views: kedro features retire"
    if "WRONGTYPE" in error:
        return "something else uses keys that begin with fd: - give Flightdeck a database of its own"
    if "NOAUTH" in error or "WRONGPASS" in error:
        return "put user and password into the address"
    return "see the server's log"
