"""Tables show values readably and escape what is not theirs."""

import pandas as pd
import pytest

from flightdeck.gates.tables import (
    banner,
    checks_table,
    facts_table,
    family_table,
    number,
    outside,
    quality_html,
    slices_html,
)
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


def test_slices_show_their_intervals() -> None:
    found = {"column": ["origin"], "slice": ["<x>"], "rows": [1234], "excess": [0.01], "low": [-0.002], "high": [0.02]}
    shown = slices_html(pd.DataFrame(found))._repr_html_()
    assert [text in shown for text in ("origin &lt;x&gt;", "1,234", "+0.0100", "-0.0020", "+0.0200")] == [True] * 5


def test_a_family_that_is_not_asked_for_says_so() -> None:
    families = {"export": [PASSED, ADVICE], "leakage": [FAILED]}
    assert "This tier does not ask for it" in family_table(families, "slices")._repr_html_()
    both = family_table(families, "export", "leakage", "slices")._repr_html_()
    assert both == checks_table([PASSED, ADVICE, FAILED])._repr_html_()


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.0, "0"), (5.0, "5"), (0.81234, "0.8123"), (3e-7, "3e-07")])
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text
