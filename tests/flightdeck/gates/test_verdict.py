"""A verdict is a pass only if something was checked and no blocking check failed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.gates.verdict import Check, judge, read_verdict, write_verdict

CHECKS = st.lists(
    st.builds(
        Check,
        name=st.text(max_size=8),
        value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        threshold=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        passed=st.booleans(),
        blocking=st.booleans(),
        detail=st.text(alphabet=st.characters(codec="utf-8"), max_size=8),
    ),
    max_size=5,
)


@given(CHECKS)
def test_a_pass_is_at_least_one_check_and_no_blocking_failure(checks: list[Check]) -> None:
    verdict = judge("s", "medium", checks, "now")
    assert verdict.passed == (bool(checks) and not verdict.failed)


def test_a_verdict_comes_back_as_it_was_written(tmp_path: Path) -> None:
    verdict = judge("s", "low", [Check("auc", None, 0.7, passed=False, blocking=False, detail="é")], "now")
    write_verdict(tmp_path / "verdict.json", verdict)
    assert read_verdict(tmp_path / "verdict.json") == verdict


def test_a_missing_a_damaged_and_a_contradictory_verdict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    with pytest.raises(NotFoundError, match="the gate wrote none"):
        read_verdict(path)
    write_verdict(path, judge("s", "low", [Check("auc", 0.1, 0.7, passed=False, blocking=True, detail="")], "now"))
    content = json.loads(path.read_text())
    for text, message in (
        ("{", "verdict"),
        (json.dumps({**content, "passed": True}), "its checks say otherwise"),
        (json.dumps({**content, "approved": True}), "unknown field"),
    ):
        path.write_text(text)
        with pytest.raises(FlightdeckError, match=message):
            read_verdict(path)
