from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flightdeck.contracts.linter import lint
from flightdeck.core.layout import PROJECT
from tests.flightdeck.contracts.project import good_contract, make_project, write_contract

Change = Callable[[dict[str, Any]], object]


def messages(project: Path) -> list[str]:
    return [str(violation) for violation in lint(project)]


def test_this_project_has_no_violation() -> None:
    assert messages(PROJECT) == []


def test_a_good_contract_has_no_violation(tmp_path: Path) -> None:
    assert messages(make_project(tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.update(ownr="x"), "unknown key ownr (did you mean 'owner'?)"),
        (lambda c: c["slo"][0].update(goal=1), "unknown key slo[0].goal"),
        (lambda c: c["outputs"][0]["columns"][0].update(units="x"), "unknown key outputs[0].columns[0].units"),
        (lambda c: c.pop("owner"), "owner is ''"),
        (lambda c: c.update(owner="  "), "owner is '  '"),
        (lambda c: c.update(owner=7), "owner: Expected `str`"),
        (lambda c: c.update(description=""), "description is empty"),
        (lambda c: c.update(stage="training"), "stage is 'training', the file is named 'ingestion'"),
        (lambda c: c.update(outputs=[]), "outputs is empty"),
        (lambda c: c.update(slo=[]), "slo is empty"),
        (lambda c: c["slo"][0].pop("target"), "target is missing"),
        (lambda c: c["slo"][0].update(target="soon"), "slo: Expected `float | null`"),
        (lambda c: c["slo"][0].update(measured_by=""), "measured_by is empty"),
        (lambda c: c["rollback"].update(command="rm -rf data"), "rollback.command is 'rm -rf data'"),
        (lambda c: c["rollback"].update(command="kedro"), "rollback.command is 'kedro'"),
        (lambda c: c["rollback"].update(procedure=""), "rollback.procedure is empty"),
        (lambda c: c.update(runbook="docs/runbooks/none.md"), "runbook docs/runbooks/none.md does not exist"),
        (lambda c: c.pop("runbook"), "runbook is empty"),
        (lambda c: c["inputs"][0].update(name="raw_flight"), "'raw_flight' (did you mean 'raw_flights'?) is not in"),
        (lambda c: c["inputs"][0].update(kept_in="cellar"), "inputs: Invalid enum value 'cellar'"),
        (lambda c: c["outputs"][1].update(name="monitorng/x"), "is no place of flightdeck.core.layout"),
        (lambda c: c["outputs"][0]["columns"][1].pop("unit"), "'source_offset': a number needs a unit"),
        (lambda c: c["outputs"][0]["columns"][0].update(type="text"), "type 'text' is none"),
        (lambda c: c["outputs"][0]["columns"].append({"name": "reason", "type": "string"}), "reason is there twice"),
    ],
)
def test_each_rule_has_a_voice(tmp_path: Path, change: Change, expected: str) -> None:
    contract = good_contract()
    change(contract)
    found = messages(make_project(tmp_path, contract))
    assert any(expected in message for message in found), found
    assert all(message.startswith("conf/base/contracts/ingestion.yml: ") for message in found)


def test_all_violations_come_at_once(tmp_path: Path) -> None:
    contract = good_contract()
    contract |= {"owner": 7, "slo": [{"name": "x"}], "runbook": "", "extra": 1}
    contract["inputs"][0]["name"] = "unheard_of"
    text = "\n".join(messages(make_project(tmp_path, contract)))
    for part in ("owner", "target is missing", "measured_by is empty", "runbook is empty", "extra", "unheard_of"):
        assert part in text


def test_a_stage_without_contract_and_a_contract_without_stage(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "src/pipelines/training").mkdir()
    (project / "serving").mkdir()
    write_contract(project, good_contract() | {"stage": "ingest"}, "ingest")
    text = "\n".join(messages(project))
    assert "conf/base/contracts/training.yml: stage 'training' has no contract" in text
    assert "conf/base/contracts/serving.yml: stage 'serving' has no contract" in text
    assert "there is no stage 'ingest' (did you mean 'ingestion'?)" in text


def test_what_is_no_yaml_or_no_mapping_is_a_violation(tmp_path: Path) -> None:
    project = make_project(tmp_path, ["a", "list"])
    (project / "conf/base/contracts/serving.yml").write_text("stage: [", encoding="utf-8")
    text = "\n".join(messages(project))
    assert "ingestion.yml: the file is not a mapping" in text
    assert "serving.yml: not valid YAML" in text


def test_without_a_catalog_datasets_are_not_checked(tmp_path: Path) -> None:
    contract = good_contract()
    contract["inputs"][0]["name"] = "unheard_of"
    project = make_project(tmp_path, contract)
    (project / "conf/base/catalog.yml").unlink()
    assert messages(project) == []
