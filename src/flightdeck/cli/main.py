"""The table of contents of our commands on the `kedro` command line.

Each command lives in the module of its name and is imported when it is asked for: `kedro` starts no slower for having
them. `run` stands in for Kedro's own command of that name.
"""

from importlib import import_module

import click

COMMANDS = (
    "audit",
    "contracts",
    "features",
    "gate",
    "lineage",
    "monitor",
    "notebooks",
    "predictions",
    "release",
    "replay",
    "run",
    "serve",
    "up",
)


class LazyCommands(click.Group):
    """A group whose command `name` is the attribute `name` of the module `flightdeck.cli.<name>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None if it is not one of ours."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"flightdeck.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"flightdeck.cli.{cmd_name}.{cmd_name} is {command!r}, not a command")
        return command


commands = LazyCommands(name="flightdeck", help="Release, serve, replay and watch models.")
