"""`kedro monitor experiments` prints what monitoring left, and says what to do where it left nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.monitor import monitor
from flightdeck.core.files import write_json
from flightdeck.core.layout import Layout, layout
from flightdeck.monitoring.experiment_report import to_json
from flightdeck.monitoring.experiment_results import measure_experiments
from tests.flightdeck.monitoring.experiment_answers import TWO, answers

AT = datetime(2013, 9, 13, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "180")
    return layout()


def shown(content: object, place: Layout) -> Result:
    place.monitoring.mkdir(parents=True, exist_ok=True)
    write_json(place.monitoring / "experiments.json", content)
    return CliRunner().invoke(monitor, ["experiments"])


def test_arms_and_differences_are_printed(place: Layout) -> None:
    frame = answers(4000, 1)
    is_new = frame["arm"] == "colour:new"
    frame = frame.assign(probability=frame["probability"] + np.where(is_new, 0.1, 0))
    result = shown(to_json(measure_experiments(frame, [TWO]), AT), place)
    assert result.exit_code == 0, result.output
    for part in ("experiment colour, since record 7, 2013-09-12 09:00 UTC, running", "less arm old", "higher"):
        assert part in result.output
    assert "not told apart" in result.output and "no data" in result.output and "void" not in result.output


def test_a_lost_unit_is_said_in_words(place: Layout) -> None:
    frame = answers(4000, 2)
    lost = (frame["arm"] == "colour:new") & (np.arange(len(frame)) % 3 == 0)
    result = shown(to_json(measure_experiments(frame[~lost], [TWO]), AT), place)
    assert "void: arm new has" in result.output and "50.00% are its share" in result.output


def test_nothing_yet_and_none_at_all(place: Layout) -> None:
    result = CliRunner().invoke(monitor, ["experiments"])
    assert result.exit_code == 1 and "kedro monitor" in result.output
    assert "kedro release route experiment add" in shown(to_json([], None), place).output


def test_a_damaged_file_is_named(place: Layout) -> None:
    result = shown(json.loads('{"experiments": 3}'), place)
    assert result.exit_code == 1 and "experiments.json" in result.output and "make it anew" in result.output
