"""`kedro features materialize`: feed the online store from the event log or a Redis stream."""

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.features_env import ENV
from flightdeck.cli.features_letters import letters_of
from flightdeck.cli.store_lock import FEEDING
from flightdeck.core.clock import Clock, SystemClock
from flightdeck.core.errors import ConfigError, FlightdeckError, StoreUnavailable
from flightdeck.core.layout import Layout, layout
from flightdeck.events.delivery import Reception
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.features.feed_status import FeedStatus, Totals
from flightdeck.features.follow_log import LogSource
from flightdeck.features.follower import Follower, run_materializer
from flightdeck.features.plan import read_fed
from flightdeck.features.store_config import EMBEDDED, Stores, read_stores
from flightdeck.features.stores import FeatureStore, open_store
from flightdeck.features.streaming import EventSource
from pipelines.ingestion.streams import STREAMS

LOG, REDIS = "log", "redis"
STAND_BY_S = 1.0


@click.command()
@click.option("--follow", is_flag=True, help="Go on for ever; a second one stands by and takes over.")
@click.option(
    "--source", type=click.Choice([LOG, REDIS]), help="Where events come from; as stores.yml says if left out."
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Loopback port for Prometheus; 0: any free one.")
@ENV
@reports_errors
def materialize(follow: bool, source: str | None, metrics_port: int | None) -> None:
    """Feed every version that the store declares: what has come since, or (--follow) all that comes."""
    totals = feed(layout(), read_stores(), source=source, follow=follow, metrics_port=metrics_port, clock=SystemClock())
    click.echo(
        f"{totals.n_applied:,} events in {totals.n_batches:,} transactions; {totals.n_late:,} came late, "
        f"{totals.n_dead:,} were refused, {totals.n_duplicates:,} came twice"
    )


def feed(
    where: Layout,
    stores: Stores,
    *,
    clock: Clock,
    source: str | None = None,
    follow: bool = False,
    metrics_port: int | None = None,
) -> Totals:
    """Feed the store of a data root in this process's main thread; what `kedro features materialize` does.

    Parameters
    ----------
    where
        Data root.
    stores
        Where store and stream are.
    clock
        Tells what is known already; that of the machine, or one of event time.
    source
        `log` or `redis`; as `stores` says if left out.
    follow
        Go on until a signal ends it; if another process feeds, stand by.
    metrics_port
        Loopback port for Prometheus, 0 for any free one; None serves none.

    Raises
    ------
    StoreUnavailable
        If the store declares no feature view.
    FlightdeckError
        If another process feeds the store, and `follow` is not asked.
    ConfigError
        If store and stream do not lie in one Redis.
    """
    events, store = _open(source or (REDIS if stores.event_stream_url else LOG), where, stores, clock)
    try:
        if not read_fed(store):
            raise StoreUnavailable(
                "feeding the online store: it declares no feature view", next_step="kedro features apply"
            )
        status = FeedStatus(where.online_store / "feed.json", metrics_port)
        if status.port is not None:
            click.echo(f"metrics: http://127.0.0.1:{status.port}/metrics", err=True)
        status.back()
        if not events.acquire(0.0):
            if not follow:
                raise FlightdeckError(
                    f"feeding the online store: another process feeds {stores.online_store(where)}",
                    next_step="stop it, or stand by until it ends: kedro features materialize --follow",
                )
            is_whole = isinstance(events, LogSource)
            waiting_for = "another process to end" if is_whole else "a share of the partitions, which others feed"
            click.echo(f"standing by: waiting for {waiting_for}", err=True)
            while is_whole and not events.acquire(STAND_BY_S):
                pass  # the status file is that of the one who feeds
        follower = Follower(events, store, STREAMS, _reception(where), status=status, clock=clock)
        return run_materializer(follower, until_idle=not follow)
    finally:
        events.close()
        store.close()


def _open(source: str, where: Layout, stores: Stores, clock: Clock) -> tuple[EventSource, FeatureStore]:
    if source == LOG:
        store = open_store(stores.online_store(where), read_only=False)
        lock = where.online_store / FEEDING
        return LogSource(EventLog(where.event_log), store, lock=lock, clock=clock), store
    url = stores.event_stream_url
    if not url or url != stores.online_store_url:
        raise ConfigError(
            "feeding from a Redis stream: it lies in the Redis of the online store, so that both change together; "
            f"stores.yml says event_stream {url or EMBEDDED!r}, online_store {stores.online_store_url or EMBEDDED!r}",
            next_step="give both the same address in conf/<env>/stores.yml, or follow the log: --source log",
        )
    from flightdeck.features.redis_stream import RedisConsumer

    consumer = RedisConsumer.open(url)
    return consumer, consumer.store


def _reception(where: Layout) -> Reception:
    return Reception(letters_of(where), SchemaHistory(where.event_log.parent / "schemas"))
