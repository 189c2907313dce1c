from pathlib import Path

import pytest
from click.testing import CliRunner

from flightdeck.cli import contracts as module
from flightdeck.cli.contracts import contracts
from tests.flightdeck.contracts.project import good_contract, make_project


def test_the_contracts_of_this_project_pass() -> None:
    result = CliRunner().invoke(contracts, ["lint"])
    assert result.exit_code == 0, result.output
    assert "no violation" in result.output


def test_all_violations_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROJECT", make_project(tmp_path, good_contract() | {"owner": "", "slo": []}))
    result = CliRunner().invoke(contracts, ["lint"])
    assert result.exit_code == 1
    assert "2 violations" in result.output
    assert "owner is ''" in result.output
    assert "slo is empty" in result.output


def test_a_contract_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(contracts, ["show", "serving"])
    assert result.exit_code == 0, result.output
    for part in ("prediction_log", "POST /v1/predictions", "kedro release rollback", "docs/runbooks/serving.md"):
        assert part in result.output


def test_an_unknown_stage_names_the_nearest() -> None:
    result = CliRunner().invoke(contracts, ["show", "servin"])
    assert result.exit_code == 1
    assert "did you mean 'serving'" in result.output
