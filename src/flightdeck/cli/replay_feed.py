"""The event stream of a replay: backfills the online store to a moment, then lets it learn what becomes known."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from flightdeck.cli.store_lock import CHANGING, FEEDING, holding
from flightdeck.events.log import EventLog
from flightdeck.features.event_feed import EventFeed
from flightdeck.features.materializer import Materializer
from flightdeck.features.stores import open_store
from flightdeck.features.view import FeatureView


@contextmanager
def open_feed(
    log: EventLog,
    store_path: Path,
    views: Sequence[FeatureView],
    start_us: int,
    end_us: int,
    *,
    url: str = "",
) -> Iterator[EventFeed]:
    """Give a feed into the online store at `store_path`, which nobody else feeds or changes meanwhile.

    It declares `views` and feeds them beside every version that the store declares already.

    Parameters
    ----------
    log
        Event log.
    store_path
        Folder of the embedded store; the locks lie there in any case.
    views
        Versions to feed.
    start_us, end_us
        As for `EventFeed`.
    url
        Address of the store; empty for the embedded one.

    Raises
    ------
    FlightdeckError
        If another replay feeds the store.
    NotFoundError
        If the log lacks a stream.
    StoreUnavailable
        If the store cannot be written.
    """
    with (
        holding(store_path, CHANGING, doing="replaying"),
        holding(store_path, FEEDING, doing="replaying"),
        closing(open_store(url or store_path, read_only=False)) as store,
    ):
        with store.reading() as moment:
            declared = moment.declared()
        fed = {**declared, **{view.digest: view for view in views}}
        yield EventFeed(log, Materializer(store, list(fed.values())), start_us, end_us)
