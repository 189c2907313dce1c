"""Arguments and options that the commands of `kedro release` share."""

import getpass

import click

from flightdeck.core.layout import PROJECT
from flightdeck.release.people import Person, read_people

VERSION = click.argument("version", type=click.IntRange(min=1))
PERSON = click.option(
    "--by", required=True, envvar="FLIGHTDECK_PERSON", help="Name of the person who decides (or set FLIGHTDECK_PERSON)."
)
ACTOR = click.option(
    "--by", default=getpass.getuser, envvar="FLIGHTDECK_PERSON", help="Who does it; your login name where left out."
)


def decider(by: str) -> Person:
    """Return the person who gives a command: the one of the key in FLIGHTDECK_KEY, else the stated one.

    Raises
    ------
    ReleaseRefused
        If the register of people asks for a proof and there is none.
    """
    return read_people(PROJECT / "conf").identify(by)


REASON = click.option("--reason", default="", help="Why; kept in the ledger.")
