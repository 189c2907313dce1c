"""The import rules of .importlinter hold, and cover every room."""

import configparser
import subprocess
import sys
from pathlib import Path

from flightdeck.core.layout import PROJECT

SIDE_ROOMS = {"lineage", "contracts", "notebooks"}


def rules() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(PROJECT / ".importlinter", encoding="utf-8")
    return parser


def listed(section: str, key: str) -> set[str]:
    return set(rules()[f"importlinter:contract:{section}"][key].replace("|", " ").split())


def test_the_import_rules_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_its_place() -> None:
    rooms = {path.name for path in (PROJECT / "src/flightdeck").iterdir() if path.is_dir() and path.name[0] not in "._"}
    placed = {name.partition(".")[2] for name in listed("direction", "layers") if name.startswith("flightdeck.")}
    assert rooms == placed | SIDE_ROOMS
    assert {f"flightdeck.{room}" for room in SIDE_ROOMS} == listed("side-rooms", "source_modules")


def test_side_rooms_are_kept_from_every_other_room() -> None:
    rooms = {name for name in listed("direction", "layers") if name.startswith("flightdeck.")} - {"flightdeck.core"}
    assert rooms | {"pipelines"} <= listed("side-rooms", "forbidden_modules")


def test_importing_the_server_loads_no_heavy_part() -> None:
    heavy = (
        "kedro.framework.session",
        "kedro.runner",
        "mlflow",
        "evidently",
        "streamlit",
        "papermill",
        "sklearn",
        "ndonnx",
        "onnx",
    )
    code = f"import sys, serving.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
