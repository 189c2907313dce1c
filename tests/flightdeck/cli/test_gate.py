"""`kedro gate run` with real kernels: what it says about drafts, bundles and versions, and with which exit code."""

from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.gate import gate
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import GateImpossible
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.by_hand import GateSettings, read_settings, run_by_hand, usual_tier
from flightdeck.gates.notebook import GateFiles
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import read_verdict
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.release.ledger_config import released_ledger
from tests.candidates import seal_draft, write_draft
from tests.flightdeck.gates.test_notebook import kernels, scratch
from tests.release_desk import register


@pytest.fixture(autouse=True)
def below_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KEDRO_ENV", "test")  # its tiers ask for nothing that a draft made by hand has not
    for variable in ("FLIGHTDECK_LEDGER", "FLIGHTDECK_CHECKPOINTS", "FLIGHTDECK_SIGNING_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def sealed(tmp_path: Path) -> Bundle:
    """Return a good draft, sealed."""
    return seal_draft(write_draft(tmp_path / "before"), layout().bundles)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(gate, ["run", *arguments])


def test_a_good_draft_passes_with_the_tier_of_the_pipeline(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft")
    found = run(str(draft))
    assert found.exit_code == 0, found.output
    assert "verdict: passed" in found.output and "gain_over_rule" in found.output
    assert read_verdict(GateFiles(draft / "evaluation").verdict).tier == usual_tier()


def test_a_bad_draft_fails_with_3_and_its_checks(tmp_path: Path) -> None:
    found = run(str(write_draft(tmp_path / "draft", shift=0.5)))
    assert found.exit_code == 3
    assert "FAIL" in found.output and "the gate says no" in found.output and "ece" in found.output


def test_a_draft_of_which_not_all_can_be_measured_is_4_and_says_why(tmp_path: Path) -> None:
    found = run(str(write_draft(tmp_path / "draft", strength={15: 1.5})))
    assert found.exit_code == 4
    assert "could not look at all of this draft" in found.output and "auc_120 is unknown" in found.output


def test_a_version_is_judged_on_a_copy_by_its_own_tier(sealed: Bundle, tmp_path: Path) -> None:
    ledger = released_ledger(layout(), SystemClock())
    register(ledger, 1, bundle=sealed, model_name="flight-delay", tier="low")
    n_records = len(ledger.records())
    found = run("1", "--report", str(tmp_path / "report"))
    assert found.exit_code == 0, found.output
    verdict = read_verdict(tmp_path / "report" / "verdict.json")
    assert (verdict.tier, verdict.subject) == ("low", sealed.manifest.metadata["content_digest"])
    assert (tmp_path / "report" / "evaluation.html").is_file()
    assert open_bundle(sealed.path, expected_digest=sealed.digest) == sealed
    assert len(ledger.records()) == n_records


def test_the_folder_of_a_sealed_bundle_stays_as_it_is(sealed: Bundle) -> None:
    verdict = run_by_hand(sealed.path, tier="high", settings=read_settings())
    assert verdict.tier == "high"
    assert {check.blocking for check in verdict.checks if check.name == "worst_origin_auc"} == {True}
    assert open_bundle(sealed.path, expected_digest=sealed.digest) == sealed


def test_a_lost_champion_stops_tier_medium_and_can_be_replaced_in_tier_low(tmp_path: Path) -> None:
    draft, lost = write_draft(tmp_path / "draft"), "missing: model.onnx"
    medium = run_by_hand(draft, tier="medium", settings=read_settings(), champion_problem=lost)
    slices = ("slice_carrier", "slice_month", "slice_origin")
    assert medium.failed == ("champion_log_loss", *slices, "package_champion")
    low = run_by_hand(draft, tier="low", settings=read_settings(), champion_problem=lost)
    assert low.passed
    assert {check.name for check in low.checks if not check.passed} == {"champion_log_loss", "package_champion"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["nowhere"], "no such folder", id="no folder"),
        pytest.param(["7"], "no ledger at", id="no ledger"),
        pytest.param([".", "--tier", "hihg"], "did you mean 'high'", id="no tier"),
    ],
)
def test_what_cannot_be_judged_is_4(arguments: list[str], message: str) -> None:
    found = run(*arguments)
    assert found.exit_code == 4
    assert message in found.output


def test_an_altered_bundle_is_4(sealed: Bundle) -> None:
    (sealed.path / "rules.json").chmod(0o644)
    (sealed.path / "rules.json").write_text('{"other": 1}')
    found = run(str(sealed.path))
    assert found.exit_code == 4
    assert "altered: rules.json" in found.output


def test_an_unknown_version_is_4(sealed: Bundle) -> None:
    register(released_ledger(layout(), SystemClock()), 1, bundle=sealed, model_name="flight-delay", tier="low")
    found = run("7")
    assert found.exit_code == 4
    assert "version 7" in found.output


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        pytest.param("1 / 0", "ZeroDivisionError", id="cell raises"),
        pytest.param("import os; os._exit(1)", "DeadKernelError|died", id="kernel dies"),
        pytest.param("x = 1", "the gate wrote none", id="no verdict"),
    ],
)
def test_a_notebook_without_verdict_is_4(tmp_path: Path, cell: str, message: str) -> None:
    path = scratch(tmp_path / "gate.ipynb", cell)
    notebook = nbformat.read(path, 4)
    notebook.cells[0].source += "\nchampion_bundle = ''\nchampion_problem = ''\ngates = []\nthresholds = {}"
    nbformat.write(notebook, path)
    settings = GateSettings(notebook=str(path), cell_timeout_s=60)
    with pytest.raises(GateImpossible, match=message) as error:
        run_by_hand(write_draft(tmp_path / "draft"), tier="low", settings=settings)
    assert error.value.exit_code == 4
    assert kernels() == set()


def test_the_tier_of_the_pipeline_is_one_of_the_policies() -> None:
    assert read_policies(PROJECT / "conf").tier(usual_tier())
