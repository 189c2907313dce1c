"""Arguments and options that the commands of `kedro release` share, and who gives a command."""

import getpass
import os

import click

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.release.decisions import record_refusal
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.people import MAX_NAME, PermissionDenied, Person, person_key, read_people
from flightdeck.release.people_keys import KeyRefused, identify_by_key

KEY = "FLIGHTDECK_KEY"
UNKNOWN = "unknown"


def _stated_name(_: click.Context, option: click.Parameter, by: str | None) -> str | None:
    if by is None and not os.environ.get(KEY):
        raise click.MissingParameter(param=option, message=f"Name yourself, or give your key in {KEY}.")
    return by


def _stated_or_login_name(_: click.Context, __: click.Parameter, by: str | None) -> str | None:
    return by if by is not None or os.environ.get(KEY) else getpass.getuser()


VERSION = click.argument("version", type=click.IntRange(min=1))
PERSON = click.option(
    "--by",
    envvar="FLIGHTDECK_PERSON",
    callback=_stated_name,
    help=f"Name of the person who decides (or set FLIGHTDECK_PERSON); not needed with a key in {KEY}.",
)
ACTOR = click.option(
    "--by",
    envvar="FLIGHTDECK_PERSON",
    callback=_stated_or_login_name,
    help=f"Who does it; where left out the person of the key in {KEY}, or your login name.",
)
REASON = click.option("--reason", default="", help="Why; kept in the ledger.")


def decider(by: str | None) -> Person:
    """Return the person who gives a command: the one of the key in FLIGHTDECK_KEY, else the stated one.

    A refusal is recorded in the ledger, with the command that was asked for.

    Raises
    ------
    PermissionDenied
        If the key is unknown, expired, revoked or another person's than `by`; if the register of people asks for a
        proof and there is none; or if the person is revoked.
    """
    try:
        return _identified(by)
    except PermissionDenied as error:
        context = click.get_current_context(silent=True)
        name = (error.name if isinstance(error, KeyRefused) else by) or UNKNOWN
        record_refusal(
            released_ledger(layout(), SystemClock()),
            context.params.get("version") if context else None,
            name,
            str(context.info_name) if context else "decide",
            error,
        )
        raise


def _identified(by: str | None) -> Person:
    people, key = read_people(PROJECT / "conf"), os.environ.get(KEY)
    if not key:
        return people.identify(by or "")
    person = identify_by_key(layout().people_keys, key, people=people, now=SystemClock().now())
    if by is not None and person_key(by) != person_key(person.name):
        raise KeyRefused(
            f"the key {person.proof.removeprefix('key:')} is that of {person.name}, not of {by[:MAX_NAME]!r}",
            next_step="leave --by and FLIGHTDECK_PERSON out, or give your own key",
            name=person.name,
        )
    return person
