import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flightdeck.cli import serve as module
from flightdeck.cli.main import commands
from flightdeck.core.clock import SystemClock, to_us
from flightdeck.core.layout import PROJECT, layout
from flightdeck.inference.drill import DrillReader
from flightdeck.inference.modes import Mode


@pytest.fixture(autouse=True)
def data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(commands, ["serve", *words])
    return result.exit_code, result.output


def test_a_drill_is_begun_replaced_and_ended() -> None:
    reader, now_us = DrillReader(layout().drill), to_us(SystemClock().now())
    code, said = run("drill", "--mode", "fallback", "--for", "60s", "--surface", "search")
    assert code == 0 and "search: at best fallback until" in said
    found = reader.current(now_us)
    assert found is not None and found.mode is Mode.FALLBACK and found.surface == "search"
    assert 55e6 < to_us(found.until) - now_us < 300e6
    assert run("drill", "--mode", "refused")[0] == 0
    assert (found := reader.current(now_us)) is not None and found.covers("alerts") and found.mode is Mode.REFUSED
    assert run("drill", "--stop") == (0, "the drill has ended\n")
    assert run("drill", "--stop") == (0, "there was no drill\n")
    assert reader.current(now_us) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mode", "fallbak"], "did you mean 'fallback'"),
        (["--mode", "rules", "--surface", "serch"], "did you mean 'search'"),
        (["--mode", "rules", "--for", "2h"], "at most 1h"),
        ([], "--stop"),
        (["--mode", "rules", "--stop"], "one of the two"),
    ],
)
def test_a_drill_that_cannot_be_is_refused_and_nothing_is_written(words: list[str], said: str) -> None:
    code, output = run("drill", *words)
    assert code == 1 and said in output
    assert not layout().drill.exists()


def test_without_a_command_it_becomes_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, ...]] = []
    monkeypatch.setattr(module, "_become_server", lambda *options: became.append(options))
    assert run("--port", "8123", "--workers", "3", "--require-keys")[0] == 0 and run()[0] == 0
    assert became == [
        ("--host", "127.0.0.1", "--port", "8123", "--workers", "3", "--require-keys"),
        ("--host", "127.0.0.1", "--port", "8000", "--workers", "1"),
    ]


def test_every_option_of_the_server_is_one_of_the_command() -> None:
    server = subprocess.run([sys.executable, "-m", "serving", "--help"], cwd=PROJECT, capture_output=True, check=True)
    theirs = set(re.findall(r"--[a-z-]+", server.stdout.decode()))
    assert theirs and theirs <= set(re.findall(r"--[a-z-]+", run("--help")[1]))
