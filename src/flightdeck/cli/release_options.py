"""Arguments and options that the commands of `kedro release` share."""

import getpass

import click

VERSION = click.argument("version", type=click.IntRange(min=1))
PERSON = click.option(
    "--by", required=True, envvar="FLIGHTDECK_PERSON", help="Name of the person who decides (or set FLIGHTDECK_PERSON)."
)
ACTOR = click.option(
    "--by", default=getpass.getuser, envvar="FLIGHTDECK_PERSON", help="Who does it; your login name where left out."
)
REASON = click.option("--reason", default="", help="Why; kept in the ledger.")
