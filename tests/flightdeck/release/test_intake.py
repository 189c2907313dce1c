"""From a draft that passed to a candidate: repeatable, and never without a pass."""

from pathlib import Path

import pytest

from flightdeck.core.errors import ReleaseRefused
from flightdeck.gates.verdict import Check, Verdict, judge, write_verdict
from flightdeck.inference.bundle import EVIDENCE, REQUIRED, content_digest
from flightdeck.release.decisions import current_state
from flightdeck.release.intake import Champion, enter_candidate, find_champion
from flightdeck.release.ledger import Ledger
from flightdeck.release.registry import Registry, RegistryUnavailable
from tests.flightdeck.release.test_commands import Desk
from tests.release_desk import PIPELINE


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    folder = tmp_path / "draft"
    for name in (*REQUIRED, *EVIDENCE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def judged(draft: Path, *, passed: bool = True) -> Verdict:
    verdict = judge(content_digest(draft), "medium", [Check("auc", 0.8, 0.7, passed, blocking=True, detail="")], "now")
    write_verdict(draft / "evaluation" / "verdict.json", verdict)
    return verdict


def enter(draft: Path, verdict: Verdict, bundles: Path, ledger: Ledger, registry: Registry) -> tuple[int, str]:
    version, bundle = enter_candidate(
        draft, verdict, bundles=bundles, ledger=ledger, registry=registry, by=PIPELINE, facts={"model_digest": "m"}
    )
    return version, bundle.digest


def test_a_passed_draft_becomes_a_candidate(draft: Path, bundles: Path, ledger: Ledger, registry: Registry) -> None:
    version, digest = enter(draft, judged(draft), bundles, ledger, registry)
    state = current_state(ledger)
    assert (version, state.candidate, state.versions[1].digest) == (1, 1, digest)
    assert state.versions[1].verdict_passed is True
    assert registry.aliases() == {"candidate": 1}
    assert [record.action for record in ledger.records()] == ["registered", "verdict"]
    assert ledger.records()[0].detail["model_digest"] == "m"


def test_entering_again_changes_nothing(draft: Path, bundles: Path, ledger: Ledger, registry: Registry) -> None:
    verdict = judged(draft)
    assert enter(draft, verdict, bundles, ledger, registry) == enter(draft, verdict, bundles, ledger, registry)
    assert ledger.head() == 2


def test_a_failed_or_foreign_verdict_seals_nothing(
    draft: Path, bundles: Path, ledger: Ledger, registry: Registry
) -> None:
    for verdict in (judged(draft, passed=False), judge("f" * 64, "medium", judged(draft).checks, "now")):
        with pytest.raises(ReleaseRefused, match="the verdict is about"):
            enter(draft, verdict, bundles, ledger, registry)
    assert not bundles.exists()
    assert not ledger.exists()


def test_without_mlflow_nothing_enters_the_ledger(draft: Path, bundles: Path, ledger: Ledger) -> None:
    with pytest.raises(RegistryUnavailable):
        enter(draft, judged(draft), bundles, ledger, Registry("http://127.0.0.1:9", "flight-delay"))
    assert not ledger.exists()


def test_the_champion_is_found_verified(draft: Path, bundles: Path, ledger: Ledger, registry: Registry) -> None:
    assert find_champion(ledger, bundles) == Champion()
    _, digest = enter(draft, judged(draft), bundles, ledger, registry)
    Desk(ledger, bundles).release(1)
    assert find_champion(ledger, bundles) == Champion(1, bundles / digest[:16])
    (bundles / digest[:16] / "model.onnx").unlink()
    assert "missing: model.onnx" in find_champion(ledger, bundles).problem
