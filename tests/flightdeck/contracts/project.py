"""A small project with one stage, whose contract has nothing wrong with it."""

from pathlib import Path
from typing import Any

import yaml


def good_contract() -> dict[str, Any]:
    """Return a contract without a violation in the project of `make_project`."""
    return {
        "stage": "ingestion",
        "owner": "data@flightdeck.example",
        "description": "Checks rows.",
        "inputs": [{"name": "raw_flights"}],
        "outputs": [
            {
                "name": "quarantined_flights",
                "columns": [
                    {"name": "reason", "type": "string"},
                    {"name": "source_offset", "type": "int64", "unit": "line"},
                ],
            },
            {"name": "monitoring/quality.parquet", "kept_in": "layout"},
        ],
        "slo": [{"name": "rows in quarantine, at most", "target": 1, "unit": "%", "measured_by": "ingestion.json"}],
        "rollback": {"procedure": "Build it again.", "command": "kedro run --pipelines ingestion"},
        "runbook": "docs/runbooks/ingestion.md",
    }


def make_project(root: Path, contract: object | None = None) -> Path:
    """Write the project below `root` with `contract` (default: the good one) and return `root`."""
    for folder in ("conf/base/contracts", "docs/runbooks", "src/pipelines/ingestion"):
        (root / folder).mkdir(parents=True)
    (root / "docs/runbooks/ingestion.md").write_text("# Ingestion\n", encoding="utf-8")
    catalog: dict[str, dict[str, str]] = {
        "raw_flights": {},
        "quarantined_{source}": {},
        "{anything}": {},
        "_source": {},
    }
    (root / "conf/base/catalog.yml").write_text(yaml.safe_dump(catalog), encoding="utf-8")
    write_contract(root, good_contract() if contract is None else contract)
    return root


def write_contract(root: Path, contract: object, stage: str = "ingestion") -> None:
    """Write a contract as YAML."""
    path = root / "conf/base/contracts" / f"{stage}.yml"
    path.write_text(yaml.safe_dump(contract), encoding="utf-8")
