"""`kedro serve keys`: who may ask the service for what."""

from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import layout
from flightdeck.inference.api_keys import ApiKey, Role, add_key, plan_key, read_keys, revoke_key
from flightdeck.inference.surface_policy import read_surface_policies


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. A server asks for them unless bound to loopback, or with --require-keys."""


@keys.command()
@click.argument("name")
@click.option("--role", default=Role.PREDICT.value, show_default=True, help="predict, or operate (metrics, details).")
@click.option("--surface", "surfaces", multiple=True, help="A surface that it may ask for; repeatable.  [default: all]")
@click.option("--rate", type=float, help="Requests a second, over all workers.  [default: unlimited]")
@click.option("--burst", type=int, help="Requests at once after a pause.  [default: those of a second]")
@click.option("--days", type=float, help="Days until it expires.  [default: never]")
@reports_errors
def add(
    name: str, role: str, surfaces: tuple[str, ...], rate: float | None, burst: int | None, days: float | None
) -> None:
    """Make a key for NAME and print it, this once; the servers know it within a second."""
    now = SystemClock().now()
    key, kept = plan_key(
        name,
        role,
        now=now,
        known_surfaces=read_surface_policies(),
        surfaces=surfaces,
        rate_per_s=rate,
        burst=burst,
        days=days,
    )
    add_key(layout().api_keys, kept, now)
    click.echo(f"key {kept.id} for {kept.name}, role {kept.role}; it is not shown again:", err=True)
    click.echo(key)


@keys.command("list")
@reports_errors
def list_keys() -> None:
    """Print all keys, without their secrets."""
    now = SystemClock().now()
    table = Table(title="API keys", title_justify="left")
    for column in ("id", "name", "role", "state", "surfaces", "requests/s", "created", "expires"):
        table.add_column(column)
    for key in read_keys(layout().api_keys):
        table.add_row(*_row(key, now))
    Console().print(table)


@keys.command()
@click.argument("which", metavar="NAME_OR_ID")
@reports_errors
def revoke(which: str) -> None:
    """Make a key invalid; the servers know it within a second."""
    gone = revoke_key(layout().api_keys, which, SystemClock().now())
    click.echo(f"key {gone.id} of {gone.name} is revoked")


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    rate = "unlimited" if key.rate_per_s is None else f"{key.rate_per_s:g} (burst {key.burst})"
    expires = "never" if key.expires_at is None else _minute(key.expires_at)
    surfaces = "all" if key.surfaces is None else ", ".join(key.surfaces)
    shown = surfaces if key.role is Role.PREDICT else "-"
    return key.id, key.name, key.role.value, key.state(now), shown, rate, _minute(key.created_at), expires


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
