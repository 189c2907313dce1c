"""The whole look at a draft: all families, the real model file, plots that hold what was measured."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from flightdeck.core.clock import EPOCH, VirtualClock
from flightdeck.core.errors import BundleRefused, ConfigError, ContractViolation, NotFoundError
from flightdeck.gates import plots
from flightdeck.gates.assessment import Family, assess, sign_off
from flightdeck.gates.bounds import at_most
from flightdeck.gates.checks import quality_table
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.probe import feature_sample, max_onnx_difference, score, single_row_ms
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check, read_verdict
from tests.candidates import DATA_VERSIONS, write_draft

CLOCK = VirtualClock(EPOCH)


def test_a_look_by_hand_needs_only_the_folder(
    good_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")  # its tiers ask for nothing that a draft made by hand has not
    found = assess(
        str(good_draft),
        tier="medium",
        thresholds={},
        gates=[],
        further={},
        data_versions={},
        key="flight_id",
        segments=["origin", "carrier"],
    )
    assert list(found.families) == [
        "coverage", "ranking", "leakage", "calibration", "baselines",
        "champion", "slices", "segments", "export", "package",
    ]  # fmt: skip
    verdict = sign_off(found, str(tmp_path / "verdict.json"), CLOCK)
    assert verdict.passed
    assert verdict.made_at == "1970-01-01T00:00:00+00:00"
    assert read_verdict(tmp_path / "verdict.json") == verdict
    assert sign_off(found, "", CLOCK) == verdict


def families(draft: Path, gates: list[str], **further: Family) -> dict[str, list[Check]]:
    found = assess(
        str(draft),
        tier="medium",
        thresholds={},
        gates=gates,
        further=further,
        data_versions={},
        key="flight_id",
        segments=["origin", "carrier"],
    )
    return {name: list(checks) for name, checks in found.families.items()}


def refusing(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    raise NotFoundError("reading the log: there is none", next_step="kedro run")


def failing(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    raise ZeroDivisionError("division by zero")


def silent(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    return []


def measuring(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    return [at_most("psi_distance", 0.1, thresholds.psi_at_most, thresholds, "as measured")]


def test_a_family_that_cannot_look_has_failed_and_the_others_look(good_draft: Path) -> None:
    asked = ["coverage", "freshness", "skew", "server", "stability", "training_drift"]
    brought: dict[str, Family] = {"freshness": refusing, "skew": failing, "server": silent, "training_drift": measuring}
    found = families(good_draft, asked, **brought)
    assert list(found) == asked
    for name, message in (
        ("freshness", "could not run: reading the log: there is none; next step: kedro run"),
        ("skew", "could not run: ZeroDivisionError: division by zero"),
        ("server", "could not run: it made no check"),
        ("stability", "could not run: the use case brings no family of this name"),
    ):
        assert found[name] == [Check(name, None, None, passed=False, blocking=True, detail=message)]
    assert [(check.name, check.passed) for check in found["training_drift"]] == [("psi_distance", True)]
    assert all(check.passed for check in found["coverage"])


def test_a_family_of_the_engine_cannot_be_replaced(good_draft: Path) -> None:
    assert [check.name for check in families(good_draft, ["leakage"], leakage=silent)["leakage"]] == ["leakage_auc"]


def test_a_draft_without_its_sample_is_judged_all_the_same(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft")
    (draft / "reference/inputs.parquet").unlink()
    found = families(draft, ["coverage", "export"])
    assert "inputs.parquet" in found["export"][0].detail
    assert (found["export"][0].value, found["export"][0].passed) == (None, False)
    assert all(check.passed for check in found["coverage"])


def test_an_unknown_threshold_is_refused(good_draft: Path, bounds: Thresholds) -> None:
    given = {**msgspec.to_builtins(bounds), "auc_at_lest": 1}
    with pytest.raises(ConfigError, match="did you mean 'auc_at_least'"):
        assess(
            str(good_draft),
            tier="low",
            thresholds=given,
            gates=[],
            further={},
            data_versions=DATA_VERSIONS,
            key="flight_id",
            segments=[],
        )


def test_the_model_file_itself_is_scored_again(good: Evidence, tmp_path: Path) -> None:
    sample = feature_sample(good.draft)
    assert np.allclose(score(good.draft, sample), sample["probability"], atol=1e-6)
    assert max_onnx_difference(good, sample) == pytest.approx(3e-7, abs=1e-7)
    assert max_onnx_difference(good, sample.assign(probability=0.5)) > 0.1
    assert np.isnan(max_onnx_difference(replace(good, training={}), sample))
    assert (single_row_ms(good.draft, sample, n_calls=5) > 0).all()


def test_a_draft_whose_files_do_not_fit_is_refused(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft", n_rows=1000)
    features = json.loads((draft / "features.json").read_text())
    (draft / "features.json").write_text(json.dumps({**features, "view_columns": ["a__open", "c"]}))
    with pytest.raises(ContractViolation, match="columns missing: c"):
        feature_sample(draft)
    (draft / "features.json").write_text(json.dumps({**features, "numeric": ["a__open"]}))
    with pytest.raises(BundleRefused):
        score(draft, feature_sample(draft))
    (draft / "features.json").write_text("{}")
    with pytest.raises(ContractViolation, match=r"features\.json"):
        feature_sample(draft)


def test_every_plot_is_a_picture_with_a_text_for_those_who_do_not_see_it(good: Evidence, bounds: Thresholds) -> None:
    with_champion = replace(good, champion=good.predictions)
    figures = [
        plots.plot_ranking(good, bounds),
        plots.plot_reliability(good),
        plots.plot_months(good, 1000),
        plots.plot_segments(quality_table(good, good.predictions["origin"]), 0.8, 1000),
        plots.plot_champion(with_champion, 0.002),
        plots.plot_latency(np.linspace(0.1, 1, 50), 10.0),
    ]
    for figure in figures:
        data, metadata = plots.Picture(figure)._repr_mimebundle_()
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert len(metadata["image/png"]["alt"]) > 10
