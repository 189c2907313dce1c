"""`kedro release route`: routes come and go on a real ledger, and each refusal says what is legal."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.release import release
from flightdeck.cli.release_routes import route
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import layout
from flightdeck.gates.verdict import Check, judge
from flightdeck.release.ledger import open_ledger
from tests import release_desk as commands
from tests.candidates import seal_tiny


@pytest.fixture(autouse=True)
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a champion 1, an approved 2 in staging and a candidate 3."""
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")
    place = layout()
    ledger = open_ledger(place.ledger, SystemClock())
    for version, n_promotions in ((1, 3), (2, 1), (3, 0)):
        bundle = seal_tiny(tmp_path / f"draft-{version}", place.bundles, mark=str(version))
        commands.register(ledger, version, bundle=bundle, model_name="m", tier="medium")
        check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
        verdict = judge(bundle.manifest.metadata["content_digest"], "medium", [check], "")
        commands.record_verdict(ledger, version, verdict, bundle=bundle)
        if n_promotions:
            commands.approve(ledger, version, by="Ada", bundles=place.bundles)
        for _ in range(n_promotions):
            commands.promote(ledger, version, by="Ada", bundles=place.bundles)


def kedro_release(*arguments: str) -> Result:
    return CliRunner().invoke(release, arguments)


def said(*arguments: str) -> str:
    result = kedro_release("route", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = kedro_release("route", *arguments)
    assert result.exit_code in (1, 2), result.output
    return " ".join(result.output.split())


def test_routes_come_are_shown_and_go() -> None:
    assert "shadow 2 of 0.2" in said("shadow", "add", "2", "--share", "0.2", "--reason", "look first")
    assert "experiment prices: old 0.5 (version 1), new 0.25 (version 2)" in said(
        "experiment", "add", "prices", "--arm", "old=1:0.5", "--arm", "new=2:0.25"
    )
    assert "arm prices:new of 0.5" in said("experiment", "share", "prices", "new", "--share", "0.5")
    assert "segment EWR: origin in {EWR}" in said("segment", "add", "EWR", "--where", "origin=EWR")
    assert "segment EWR: canary 2 of 0.1" in said("segment", "canary", "EWR", "2")
    shown = said("show")
    for expected in (
        "champion",
        "shadow of 0.2 of the units",
        "arm prices:old with a share of 0.5",
        "arm prices:new with a share of 0.5",
        "canary of segment EWR with a share of 0.1",
        "segment EWR: origin in {EWR}",
    ):
        assert expected in shown
    version = kedro_release("show", "2").output
    assert "routes    shadow of 0.2 of the units; arm prices:new" in version
    assert "look first" in version
    assert "prices" in kedro_release("show", "1").output
    assert "became its champion" in said("segment", "promote", "EWR")
    assert "version 2 taken out, the champion of the table answers" in said("segment", "rollback", "EWR")
    said("segment", "remove", "EWR")
    said("experiment", "remove", "prices")
    said("shadow", "remove", "2")
    assert "routes    none" in kedro_release("show", "2").output


def test_segments_have_an_order() -> None:
    said("segment", "add", "EWR", "--where", "origin=EWR", "--champion", "1")
    said("segment", "add", "EWR-UA", "--where", "origin=EWR", "--where", "carrier=UA,DL", "--before", "EWR")
    shown = said("show")
    assert shown.index("segment EWR-UA: carrier in {UA, DL} and origin in {EWR}") < shown.index("segment EWR: origin")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("shadow", "add", "3"), "legal in: staging, shadow, canary, frozen, prod, archived"),
        (("shadow", "add", "7"), "versions there: 1, 2, 3"),
        (("shadow", "add", "2", "--share", "nan"), "a share lies in (0, 1]"),
        (("shadow", "add", "2", "--share", "-1"), "a share lies in (0, 1]"),
        (("shadow", "remove", "2"), "shadows: none"),
        (("experiment", "add", "x", "--arm", "a=1"), "is no NAME=VERSION:SHARE"),
        (("experiment", "add", "x", "--arm", "a=1:0.6", "--arm", "b=2:0.6"), "the shares sum to 1.2"),
        (("experiment", "add", "../x", "--arm", "a=1:0.6"), "is no name"),
        (("experiment", "add", "x", "--arm", "a=1:0.6", "--segment", "JFK"), "there is no segment 'JFK'"),
        (("experiment", "share", "x", "a", "--share", "0.1"), "experiments: none"),
        (("segment", "add", "s", "--where", "orgin=EWR"), "did you mean 'origin'?"),
        (("segment", "add", "s", "--where", "origin="), "0 values"),
        (("segment", "add", "s", "--where", "origin=EWR", "--where", "origin=JFK"), "a column is named once"),
        (("segment", "add", "s", "--where", "origin=EWR", "--champion", "2"), "it was no canary yet"),
        (("segment", "add", "s", "--where", "origin=EWR", "--before", "t"), "segments: none"),
        (("segment", "rollback", "s"), "segments: none"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_legal_and_changes_nothing(arguments: tuple[str, ...], expected: str) -> None:
    head = open_ledger(layout().ledger, SystemClock()).head()
    assert expected in refused(*arguments)
    assert open_ledger(layout().ledger, SystemClock()).head() == head


def test_help_explains_each_command() -> None:
    def walk(command: click.Command) -> list[click.Command]:
        return [command, *(c for n in getattr(command, "commands", {}).values() for c in walk(n))]

    found = walk(route)
    assert len(found) == 15
    assert all(command.help for command in found)
