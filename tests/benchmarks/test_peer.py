"""A peer answers from its own process, and an environment is made once."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import peer
from benchmarks.peer import Peer, environment
from flightdeck.core.errors import FlightdeckError, NotFoundError

SCRIPT = """
import os, sys
sys.path.insert(0, {scripts!r})
from lines import serve

def add(a, b):
    print("libraries talk")
    return {{"sum": a + b, "pid": os.getpid()}}

def break_down():
    raise ValueError("no such view")

def leave():
    os._exit(3)

serve(add, break_down, leave)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    (tmp_path / "echo.py").write_text(SCRIPT.format(scripts=str(peer.SCRIPTS)), encoding="utf-8")
    monkeypatch.setattr(peer, "environment", lambda name: sys.executable)
    monkeypatch.setattr(peer, "SCRIPTS", tmp_path)
    monkeypatch.setattr(peer, "ENVIRONMENTS", tmp_path)
    with Peer("echo", "echo.py") as started:
        yield started


def test_a_peer_answers_with_what_it_cost(echo: Peer) -> None:
    first, second = echo.ask("add", a=1, b=2), echo.ask("add", a=3, b=4)
    assert (first["sum"], second["sum"]) == (3, 7)
    assert first["pid"] == second["pid"]
    assert set(first) == {"sum", "pid", "cpu_s", "wall_s", "peak_rss_mb"}


def test_a_failure_of_the_peer_is_told_and_survived(echo: Peer) -> None:
    with pytest.raises(FlightdeckError, match="no such view"):
        echo.ask("break_down")
    assert echo.ask("add", a=1, b=1)["sum"] == 2


def test_a_peer_that_ended_is_told(echo: Peer) -> None:
    with pytest.raises(FlightdeckError, match="code 3"):
        echo.ask("leave")


def test_an_environment_that_fits_its_requirements_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "ENVIRONMENTS", tmp_path / "made")
    monkeypatch.setattr(peer, "REQUIREMENTS", tmp_path)
    (tmp_path / "small.txt").write_text("# nothing", encoding="utf-8")
    python = tmp_path / "made" / "small" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "made" / "small" / ".ready").write_text(hashlib.sha256(b"# nothing").hexdigest(), encoding="utf-8")
    assert environment("small") == python
    assert not python.read_bytes()


def test_a_peer_without_requirements_is_refused() -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        environment("nobody")
