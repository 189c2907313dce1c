"""`kedro features`: what is declared, what is fed, and what changes between the two.

Each command parses, calls `flightdeck.features` and prints. Nothing retires by itself: a version that a release reads
stays fed until somebody retires it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from rich.console import Console

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.feature_readers import list_readers, readers_of
from flightdeck.cli.features_env import ENV
from flightdeck.cli.features_letters import letters
from flightdeck.cli.features_materialize import materialize
from flightdeck.cli.features_preview import preview
from flightdeck.cli.features_rebuild import rebuild
from flightdeck.cli.features_tables import outdated_line, print_plan, status_table
from flightdeck.cli.features_verify import verify
from flightdeck.cli.store_lock import CHANGING, holding
from flightdeck.core.clock import SECOND_US, Clock, SystemClock, from_us, to_us
from flightdeck.core.errors import ConfigError, FlightdeckError, NotFoundError, StoreUnavailable, nearest, some
from flightdeck.core.layout import Layout, layout
from flightdeck.events.log import EventLog
from flightdeck.features.backfill_cost import backfill_cost
from flightdeck.features.materializer import Materializer
from flightdeck.features.plan import FedView, plan_features, read_fed, read_outdated
from flightdeck.features.store_config import read_stores
from flightdeck.features.stores import FeatureStore, StoreEmpty, open_store
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS

NOW = "now"
AHEAD_US = 60 * SECOND_US  # so far may the clocks of two machines be apart
UNTIL = click.option(
    "--until", help="Fill with what was known until then: ISO 8601 or `now`. [default: as far as the store is fed]"
)


class RetirementRefused(FlightdeckError):
    """A version of a feature view is still read."""


@click.group()
def features() -> None:
    """Plan, apply, fill, verify and retire feature views.

    A changed declaration is a new version. `apply` fills it beside the versions that are fed; releases read the
    versions that they were trained with; `retire` forgets a version that no release reads any more.
    """


features.add_command(letters)
features.add_command(materialize)
features.add_command(preview)
features.add_command(rebuild)
features.add_command(verify)


@features.command()
@ENV
@reports_errors
def plan() -> None:
    """Say what `apply` would do, and what it would cost; nothing is changed."""
    where = layout()
    fed, outdated = _fed_if_any(where)
    planned = plan_features(VIEWS, fed, outdated)
    costs = {}
    if planned.to_fill:
        log = EventLog(where.event_log)
        until_us = _until_us(None, fed, log, planned.to_fill, SystemClock())
        costs = {view.digest: backfill_cost(log, view, until_us) for view in planned.to_fill}
    print_plan(Console(), planned, costs, list_readers(where))


@features.command()
@UNTIL
@ENV
@reports_errors
def apply(until: str | None) -> None:
    """Declare new versions in the online store and fill them from the log; everything else stays fed."""
    where, log = layout(), EventLog(layout().event_log)
    with _changing(where, "applying declarations") as store:
        fed = read_fed(store)
        planned = plan_features(VIEWS, fed, read_outdated(store))
        if planned.to_describe:
            with store.writing() as moment:
                for view in planned.to_describe:
                    moment.declare(view)
        if planned.to_fill:
            _fill(store, log, planned.to_fill, _until_us(until, fed, log, planned.to_fill, SystemClock()))
    n_kept = len(VIEWS) - len(planned.to_fill) - len(planned.to_describe)
    click.echo(f"{len(planned.to_fill)} filled, {len(planned.to_describe)} described anew, {n_kept} unchanged")
    for view in planned.others:
        click.echo(f"still fed, though no longer declared: {view.name}@{view.version} (kedro features retire)")
    for view in planned.outdated:
        click.echo(outdated_line(view, list_readers(where)))


@features.command()
@click.argument("names", metavar="[VIEW]...", nargs=-1)
@UNTIL
@ENV
@reports_errors
def backfill(names: tuple[str, ...], until: str | None) -> None:
    """Forget the states of views and build them again from the log: all fed versions, or those named.

    VIEW is the name of a view, or `name@version` for one of its versions.
    """
    where, log = layout(), EventLog(layout().event_log)
    with _changing(where, "filling the online store") as store:
        fed = read_fed(store)
        known = [found.view for found in fed.values()] or list(VIEWS)
        chosen = [view for name in names for view in _named(name, known)] or known
        _fill(store, log, chosen, _until_us(until, fed, log, chosen, SystemClock()))


@features.command()
@click.argument("version", metavar="VIEW@VERSION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@ENV
@reports_errors
def retire(version: str, yes: bool) -> None:
    """Forget a version of a view: its states, its mark, its declaration.

    Refused while a release in staging, canary or prod reads it, or the champion that a rollback would return to.
    """
    if "@" not in version:
        raise ConfigError(
            f"retiring {version!r}: the version is missing",
            next_step="write VIEW@VERSION as kedro features status does",
        )
    where = layout()
    with _changing(where, "retiring a version") as store:
        known = [found.view for found in read_fed(store).values()]
        (view,) = _named(version, [*known, *read_outdated(store)])
        reading = readers_of(view, list_readers(where))
        if reading:
            unknown = [reader for reader in reading if reader.digests is None]
            raise RetirementRefused(
                f"retiring {view.name}@{view.version}: "
                + (
                    f"the bundle of {some(unknown)} cannot be read, it may need it"
                    if unknown
                    else f"{some(reading)} reads it"
                ),
                next_step="restore the bundle first" if unknown else "release a version that reads another one first",
            )
        is_declared = any(view.digest == declared.digest for declared in VIEWS)
        if is_declared and not yes:
            click.echo("the code still declares it: kedro features apply would fill it again")
        if not yes:
            click.confirm(f"forget {view.name}@{view.version} and all its states?", abort=True)
        with store.writing() as moment:
            moment.forget(view)
    click.echo(f"{view.name}@{view.version} is retired")


@features.command()
@ENV
@reports_errors
def status() -> None:
    """List the versions that the store feeds: how far, from what, and who reads them."""
    where = layout()
    fed, outdated = _fed_if_any(where)
    if not fed and not outdated:
        raise StoreUnavailable(
            "the online store declares no feature view: it was never filled, or by code of another layout",
            next_step="kedro features apply",
        )
    readers = list_readers(where)
    Console().print(status_table(list(fed.values()), VIEWS, readers, SystemClock().now()))
    for view in outdated:
        click.echo(outdated_line(view, readers))


@contextmanager
def _changing(where: Layout, doing: str) -> Iterator[FeatureStore]:
    """Give the store for writing, while no other command changes what it declares."""
    with holding(where.online_store, CHANGING, doing=doing):
        store = open_store(read_stores().online_store(where), read_only=False)
        try:
            yield store
        finally:
            store.close()


def _fed_if_any(where: Layout) -> tuple[dict[str, FedView], tuple[FeatureView, ...]]:
    """Return what the store feeds and what is outdated in it; nothing where there is no store yet."""
    try:
        store = open_store(read_stores().online_store(where), read_only=True)
    except StoreEmpty:
        return {}, ()
    try:
        return read_fed(store), read_outdated(store)
    finally:
        store.close()


def _fill(
    store: FeatureStore, log: EventLog, views: list[FeatureView] | tuple[FeatureView, ...], until_us: int
) -> None:
    console = Console(stderr=True)
    with console.status(f"filling {len(views)} versions from the log"):
        done = Materializer(store, views).backfill(log, until_us)
    for view in views:
        click.echo(f"filled {view.name}@{view.version}")
    click.echo(f"{done.n_events:,} events read, known until {from_us(done.watermark_us).isoformat()}")


def _until_us(
    until: str | None,
    fed: dict[str, FedView],
    log: EventLog,
    views: list[FeatureView] | tuple[FeatureView, ...],
    clock: Clock,
) -> int:
    """Return until when to fill: what was asked for, else as far as the store is fed, else all that the log knows.

    Raises
    ------
    ConfigError
        If what was asked for is no time, or one of which nothing can be known yet.
    """
    now_us = to_us(clock.now())
    if until == NOW:
        return now_us
    if until is not None:
        asked_us = _instant_us(until)
        if asked_us > now_us + AHEAD_US:
            raise ConfigError(
                f"reading --until: {until} lies in the future, it is {from_us(now_us):%Y-%m-%dT%H:%M:%SZ}; a store "
                "that is filled until then would look fresh, whatever it misses",
                next_step="write now, or a time that has passed",
            )
        return asked_us
    marks_us = [found.mark.watermark_us for found in fed.values() if found.mark is not None]
    if marks_us:
        furthest_us = max(marks_us)
        return now_us if furthest_us > now_us + AHEAD_US else furthest_us
    streams = {source for view in views for source in view.sources}
    newest = [log.read(stream, columns=["created_timestamp"])["created_timestamp"] for stream in sorted(streams)]
    known_us = [times[-1].value for times in newest if len(times)]
    return min(max(known_us), now_us) if known_us else now_us


def _instant_us(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"reading --until: {text!r} is no time", next_step="write 2013-09-12T12:00:00Z, or now"
        ) from error
    return to_us(instant if instant.tzinfo else instant.replace(tzinfo=UTC))


def _named(text: str, known: list[FeatureView]) -> list[FeatureView]:
    """Return the versions that `name` or `name@version` (its first characters) stands for."""
    name, _, version = text.partition("@")
    found = [view for view in known if view.name == name and view.digest.startswith(version)]
    if not found:
        names = {f"{view.name}@{view.version}" if version else view.name for view in known}
        raise NotFoundError(
            f"the online store feeds no {text!r}{nearest(text, names)}",
            next_step="see what it feeds: kedro features status",
        )
    if version and len(found) > 1:
        raise ConfigError(f"{text!r} stands for {some(view.version for view in found)}", next_step="write more of it")
    return found
