"""The benchmarks import here, and what their peers need is pinned without naming any place to get it from."""

import importlib
import re
from pathlib import Path

import pytest

from flightdeck.core.layout import PROJECT

BENCHMARKS = PROJECT / "benchmarks"
OURS = sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py"))
PINNED = sorted((BENCHMARKS / "requirements").glob("*.txt"))
WANTED = sorted((BENCHMARKS / "requirements").glob("*.in"))
PIN = re.compile(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[\w.!+]+( ; .+)?")


def requirements(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", OURS)
def test_every_benchmark_imports_in_our_own_environment(name: str) -> None:
    assert importlib.import_module(f"benchmarks.{name}").__doc__


def test_every_target_of_make_has_its_benchmark() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    called = re.findall(r"-m benchmarks\.(\w+)", makefile)
    assert called
    assert [name for name in called if name not in OURS] == []


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_a_requirement_file_holds_pins_and_names_no_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [line for line in requirements(path) if not PIN.fullmatch(line)] == []
    assert re.findall(r"://|index-url|find-links|trusted-host| @ |/home/|/root/|/work/", text) == []


@pytest.mark.parametrize("path", WANTED, ids=lambda path: path.name)
def test_what_is_asked_for_is_what_is_pinned(path: Path) -> None:
    pinned = requirements(path.with_suffix(".txt"))
    bare = {re.sub(r"\[.*\]", "", line) for line in pinned}
    for line in requirements(path):
        assert "==" in line, f"{line} is not pinned"
        assert re.sub(r"\[.*\]", "", line.partition("#")[0].strip()) in bare


def test_there_is_something_to_look_at() -> None:
    assert OURS
    assert PINNED
