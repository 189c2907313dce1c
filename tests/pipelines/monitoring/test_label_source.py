"""Labels of flights for the label check, from real streams."""

from pathlib import Path

import numpy as np
import pytest

from flightdeck.core.clock import MINUTE_US, to_us
from pipelines.monitoring.label_source import UNKNOWN_FOR_US, FlightLabels
from tests.event_streams import write_log
from tests.pipelines.monitoring.day import day_events

EVENTS = day_events()
NAMES = EVENTS["scheduled"]["flight_id"].to_pylist()
DUE_US = np.array([to_us(at) + 17 * MINUTE_US for at in EVENTS["scheduled"]["scheduled_arrival"].to_pylist()])
ASKED_US = np.array([to_us(at) - 120 * MINUTE_US for at in EVENTS["scheduled"]["scheduled_departure"].to_pylist()])
NOON_US = int(np.median(DUE_US))


def labels_at(root: Path, *watermarks: int) -> FlightLabels:
    return FlightLabels(write_log(root, EVENTS), lambda: {str(n): at for n, at in enumerate(watermarks)})


def test_labels_are_known_when_they_are_due_and_not_before(tmp_path: Path) -> None:
    labels, until_s = labels_at(tmp_path, NOON_US - 1, NOON_US).known(NAMES, ASKED_US)
    is_due = DUE_US <= NOON_US
    assert is_due.any() and not is_due.all()
    assert (np.isnan(labels) == ~is_due).all(), "an early outcome is no label: one class would be known first"
    late = dict(zip(EVENTS["arrived"]["flight_id"].to_pylist(), EVENTS["arrived"]["is_late"].to_pylist(), strict=True))
    expected = [float(late.get(name, 1)) for name in NAMES]  # who never reports is late
    assert labels[is_due].tolist() == np.array(expected)[is_due].tolist()
    assert until_s == ASKED_US[~is_due].min() / 1e6


@pytest.mark.parametrize("is_old", [False, True])
def test_a_flight_that_nobody_has_announced_is_waited_for_and_then_given_up(tmp_path: Path, is_old: bool) -> None:
    as_of_us = int(DUE_US.max()) + 1
    asked_us = as_of_us - UNKNOWN_FOR_US + (-1 if is_old else 1)
    labels, until_s = labels_at(tmp_path, as_of_us).known(["nowhere", NAMES[0]], np.array([asked_us, ASKED_US[0]]))
    assert np.isnan(labels).tolist() == [True, False]
    assert until_s == (as_of_us if is_old else asked_us) / 1e6


def test_without_a_store_nothing_is_known(tmp_path: Path) -> None:
    labels, until_s = labels_at(tmp_path).known(NAMES, ASKED_US)
    assert np.isnan(labels).all() and until_s == float("-inf")
