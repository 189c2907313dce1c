import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest

from flightdeck.cli.main import COMMANDS, commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_under_its_name_and_explains_itself(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str()


def test_other_names_are_left_to_kedro() -> None:
    context = click.Context(commands)
    assert commands.get_command(context, "registry") is None
    assert commands.list_commands(context) == sorted(COMMANDS)


def test_kedro_finds_the_commands() -> None:
    found = {point.value for point in entry_points(group="kedro.project_commands")}
    assert "flightdeck.cli.main:commands" in found


def test_the_table_of_contents_costs_no_imports() -> None:
    code = "import sys, flightdeck.cli.main; print(*sorted(m for m in sys.modules if m.startswith('flightdeck.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["flightdeck.cli", "flightdeck.cli.main"]
