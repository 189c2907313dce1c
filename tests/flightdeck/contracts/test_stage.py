from pathlib import Path

import pytest

from flightdeck.contracts.stage import read_contract
from flightdeck.core.errors import ConfigError, NotFoundError
from tests.flightdeck.contracts.project import good_contract, make_project


def test_a_contract_is_read_whole(tmp_path: Path) -> None:
    contract = read_contract(make_project(tmp_path), "ingestion")
    assert contract.outputs[0].columns[1].unit == "line"
    assert contract.slo[0].target == 1.0
    assert contract.rollback.command == "kedro run --pipelines ingestion"


def test_an_unknown_stage_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'ingestion'"):
        read_contract(make_project(tmp_path), "ingest")


def test_a_contract_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ownr"):
        read_contract(make_project(tmp_path, good_contract() | {"ownr": "x"}), "ingestion")
