"""What the pages say exists: commands, options, pipelines, links, runbooks, decisions."""

import re
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from kedro.framework.cli.cli import KedroCLI

from flightdeck.cli.main import commands as our_commands
from flightdeck.contracts.stage import read_contract
from flightdeck.core.layout import PROJECT
from flightdeck.monitoring.alerts import NAMES as ALERTS
from tests.documentation import advice, code_lines, commands, links, pages

PAGES = pages()
STAGES = sorted(path.stem for path in (PROJECT / "conf/base/contracts").glob("*.yml"))
SECTIONS = ["Symptom", "Look here", "Do this", "Roll back"]


def page_id(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@cache
def kedro() -> tuple[KedroCLI, click.Context]:
    cli = KedroCLI(project_path=PROJECT)
    return cli, click.Context(cli)


@cache
def pipelines() -> frozenset[str]:
    registry = (PROJECT / "src/pipelines/pipeline_registry.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r'^ +"(\w+)":', registry, re.MULTILINE))


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def complaint(words: list[str]) -> str:
    """Return what is wrong with the words after `kedro`, empty if nothing is."""
    cli, context = kedro()
    command: click.Command | None = our_commands.get_command(context, words[0]) or cli.get_command(context, words[0])
    if command is None:
        return f"kedro has no command {words[0]!r}"
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        named = rest[0].split("|")  # `list|show` stands for both
        unknown = [name for name in named if command.get_command(context, name) is None]
        if unknown:
            return f"kedro {words[0]} has no command {unknown}"
        command, rest = command.get_command(context, named[0]), rest[1:]
        assert command is not None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = [word.partition("=")[0] for word in rest if word.startswith("--")]
    missing = [option for option in given if option not in known]
    if missing:
        return f"kedro {' '.join(words)}: no option {missing}"
    asked = rest[rest.index("--pipelines") + 1].split(",") if "--pipelines" in rest[:-1] else []
    return "" if set(asked) <= pipelines() else f"kedro {' '.join(words)}: no pipeline {set(asked) - pipelines()}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_of_a_page_exists(page: Path) -> None:
    lines = code_lines(page.read_text(encoding="utf-8"))
    found = [words for line in lines for words in commands(line, "kedro")]
    assert [text for text in map(complaint, found) if text] == []
    targets = {words[0] for line in lines for words in commands(line, "make")}
    assert targets <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = [target for target in links(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()]
    assert broken == []


def test_every_command_that_an_error_advises_exists() -> None:
    problems = []
    for path, text in advice():
        problems += [f"{path}: kedro {n}" for n in re.findall(r"\bkedro ([a-z]+)\b", text) if complaint([n])]
        named = re.findall(r"\(make ([a-z]+)\b", text)
        problems += [f"{path}: make {name}" for name in named if name not in make_targets()]
    assert problems == []


@pytest.mark.parametrize("stage", STAGES)
def test_the_rollback_of_a_contract_is_a_command_that_exists(stage: str) -> None:
    program, *words = read_contract(PROJECT, stage).rollback.command.split()
    assert (complaint(words) == "") if program == "kedro" else (words[0] in make_targets())


@pytest.mark.parametrize("name", [*STAGES, *(f"alert-{alert}" for alert in ALERTS)])
def test_every_stage_and_alert_has_a_runbook_of_the_same_form(name: str) -> None:
    text = (PROJECT / "docs/runbooks" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert len(text.splitlines()) <= 60, "a runbook is one page"


def test_there_is_no_runbook_for_nothing() -> None:
    there = {path.stem for path in (PROJECT / "docs/runbooks").glob("*.md")}
    assert there == {*STAGES, *(f"alert-{alert}" for alert in ALERTS)}


def test_decisions_are_numbered_without_gaps_and_those_that_code_names_exist() -> None:
    numbers = sorted(path.name[:4] for path in (PROJECT / "docs/adr").glob("*.md"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    sources = [*(PROJECT / "src").rglob("*.py"), *(PROJECT / "serving").rglob("*.py"), *PAGES]
    named = {n for path in sources for n in re.findall(r"ADR (\d{4})", path.read_text(encoding="utf-8"))}
    assert named <= set(numbers)


def test_make_help_lists_every_target() -> None:
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    declared = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)[0].split())
    assert explained == declared == make_targets()


def test_hooks_before_a_commit_download_nothing() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    assert {hook["language"] for repository in hooks["repos"] for hook in repository["hooks"]} == {"system"}
