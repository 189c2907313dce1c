"""`kedro release people`: who may decide, and the keys by which they show who they are.

Keys are made by whoever may write the data root, so each one made or taken back is a record of the ledger.
"""

import getpass
from datetime import datetime

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.people import People, person_key, read_people
from flightdeck.release.people_keys import (
    DEFAULT_DAYS,
    PersonKey,
    make_people_key,
    read_people_keys,
    revoke_people_keys,
)


@click.group()
def people() -> None:
    """Look at who may decide about releases; make and revoke their keys.

    Roles and people are in conf/base/people.yml.
    """


@people.command("list")
@reports_errors
def list_people() -> None:
    """List the people, their roles and keys, without secrets."""
    register, keys, now = read_people(PROJECT / "conf"), read_people_keys(layout().people_keys), SystemClock().now()
    console = Console()
    console.print(_people_table(register, keys, now))
    if keys:
        console.print(_keys_table(keys, now))
    others = f"anybody else by a stated name: {', '.join(register.others)}" if register.others else "nobody else"
    console.print(f"authentication: {register.authentication}; {others}", soft_wrap=True)


@people.command()
@click.argument("name")
@click.option("--days", type=float, default=DEFAULT_DAYS, show_default=True, help="Days until it expires.")
@reports_errors
def key(name: str, days: float) -> None:
    """Make a key for NAME and print it, this once; its person gives it in FLIGHTDECK_KEY."""
    made, kept = make_people_key(
        layout().people_keys, name, people=read_people(PROJECT / "conf"), now=SystemClock().now(), days=days
    )
    _record("key_made", kept)
    click.echo(f"key {kept.id} of {kept.name}, until {_minute(kept.expires_at)} UTC; it is not shown again:", err=True)
    click.echo(made)


@people.command("revoke-key")
@click.argument("which", metavar="NAME_OR_ID")
@reports_errors
def revoke_key(which: str) -> None:
    """Make all keys of a person invalid, or the one with this id; the next command knows it."""
    for gone in revoke_people_keys(layout().people_keys, which, SystemClock().now()):
        _record("key_revoked", gone)
        click.echo(f"key {gone.id} of {gone.name} is revoked")


def _record(action: str, kept: PersonKey) -> None:
    ledger = released_ledger(layout(), SystemClock())
    if ledger.exists():
        detail = {"name": kept.name, "key": kept.id, "expires_at": kept.expires_at.isoformat(), "proof": "os"}
        ledger.append(action, actor=getpass.getuser(), subject="-", detail=detail)


def _people_table(register: People, keys: list[PersonKey], now: datetime) -> Table:
    table = Table(title="people", title_justify="left")
    for column in ("name", "roles", "may", "logins", "valid keys", "state"):
        table.add_column(column, overflow="fold")
    for name, listed in register.people.items():
        may = sorted({action for role in listed.roles for action in register.roles[role]})
        n_valid = sum(person_key(k.name) == person_key(name) and k.state(now) == "valid" for k in keys)
        state = "[red]revoked[/red]" if listed.revoked else "active"
        said = (", ".join(listed.roles), ", ".join(may), ", ".join(listed.logins))
        table.add_row(escape(name), *(escape(text) or "-" for text in said), str(n_valid), state)
    return table


def _keys_table(keys: list[PersonKey], now: datetime) -> Table:
    table = Table(title="keys", title_justify="left")
    for column in ("id", "name", "state", "made (UTC)", "expires (UTC)"):
        table.add_column(column)
    for kept in keys:
        state = kept.state(now)
        colour = "green" if state == "valid" else "red"
        dates = (_minute(kept.created_at), _minute(kept.expires_at))
        table.add_row(kept.id, escape(kept.name), f"[{colour}]{state}[/{colour}]", *dates)
    return table


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
