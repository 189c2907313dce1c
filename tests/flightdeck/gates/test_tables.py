"""Tables show values readably and escape what is not theirs."""

import pandas as pd
import pytest

from flightdeck.gates.tables import banner, checks_table, facts_table, number, outside, quality_html
from flightdeck.gates.verdict import Check, judge

FAILED = Check("auc_15", 0.7, 0.77, passed=False, blocking=True, detail="<b>low</b>")
ADVICE = Check("latency_p95_ms", 20.0, 10.0, passed=False, blocking=False, detail="slow")
PASSED = Check("ece", 0.01, 0.02, passed=True, blocking=True, detail="fine")


def test_a_banner_says_what_the_gate_says() -> None:
    no = banner(judge("s", "medium", [FAILED, ADVICE, PASSED], "now"))._repr_html_()
    assert "FAILED" in no
    assert "auc_15" in no
    assert "1 advisory check outside" in no
    assert "PASSED" in banner(judge("s", "medium", [PASSED], "now"))._repr_html_()


def test_checks_show_their_weight_and_escape_details() -> None:
    table = checks_table([FAILED, ADVICE, PASSED])._repr_html_()
    assert "&lt;b&gt;low" in table
    assert [word in table for word in ("FAIL<", "advisory<", "pass<")] == [True, True, True]
    assert "latency" in outside([ADVICE, PASSED])._repr_html_()
    assert "Every check is inside" in outside([PASSED])._repr_html_()


def test_facts_and_quality_are_escaped() -> None:
    assert "&lt;x&gt;" in facts_table({"a": "<x>"})._repr_html_()
    table = pd.DataFrame({"rows": [1234], "AUC": [0.7654]}, index=pd.Index(["<o>"], name="origin"))
    shown = quality_html(table)._repr_html_()
    assert "&lt;o&gt;" in shown
    assert "1,234" in shown
    assert "0.765" in shown


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.0, "0"), (5.0, "5"), (0.81234, "0.8123"), (3e-7, "3e-07")])
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text
