"""MLflow's aliases follow the ledger; what somebody moves there is reported and put back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.inference.bundle import Bundle
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.reconciler import reconcile, reconcile_or_warn
from flightdeck.release.registry import Registry, RegistryUnavailable
from tests import release_desk as commands

POLICIES = read_policies(PROJECT / "conf")
Enter = Callable[..., Bundle]


@pytest.fixture
def entered(enter: Enter, registry: Registry) -> Enter:
    """Enter a version and register it in MLflow too, as the pipeline does."""

    def both(version: int) -> Bundle:
        bundle = enter(version)
        assert registry.register(bundle) == version
        return bundle

    return both


def release(ledger: Ledger, bundles: Path, version: int, to: str = "prod") -> None:
    commands.approve(ledger, version, by="Ada", bundles=bundles)
    commands.bring(ledger, version, to, bundles=bundles)


def alerts(ledger: Ledger) -> list[str]:
    return [record.detail["what"] for record in ledger.records() if record.action == "alert"]


def test_aliases_follow_promotion_and_rollback(
    ledger: Ledger, registry: Registry, bundles: Path, entered: Enter
) -> None:
    for version in (1, 2, 3):
        entered(version)
    assert reconcile(ledger, registry, bundles).changes == ("candidate: none -> 3",)
    release(ledger, bundles, 1)
    release(ledger, bundles, 2, to="canary")
    assert set(reconcile(ledger, registry, bundles).changes) == {"champion: none -> 1", "canary: none -> 2"}
    assert registry.aliases() == {"champion": 1, "canary": 2, "candidate": 3}
    commands.bring(ledger, 2, "prod", bundles=bundles)
    reconcile(ledger, registry, bundles)
    assert registry.aliases() == {"champion": 2, "candidate": 3}
    commands.rollback(ledger, by="Ada")
    reconcile(ledger, registry, bundles)
    assert registry.aliases() == {"champion": 1, "candidate": 3}
    assert alerts(ledger) == []


def test_reconciling_twice_changes_nothing(ledger: Ledger, registry: Registry, bundles: Path, entered: Enter) -> None:
    entered(1)
    reconcile(ledger, registry, bundles)
    again = reconcile(ledger, registry, bundles)
    assert (again.changes, again.surprises) == ((), ())


def test_an_alias_moved_by_hand_is_reported_and_put_back(
    ledger: Ledger, registry: Registry, bundles: Path, entered: Enter
) -> None:
    entered(1)
    entered(2)
    release(ledger, bundles, 1)
    reconcile(ledger, registry, bundles)
    registry.set_alias("champion", 2)
    found = reconcile(ledger, registry, bundles)
    assert found.surprises == ("alias champion was moved in MLflow from 1 to 2; put back",)
    assert registry.aliases()["champion"] == 1
    assert alerts(ledger) == list(found.surprises)
    assert reconcile(ledger, registry, bundles).surprises == ()


def test_an_interrupted_run_is_no_surprise(ledger: Ledger, registry: Registry, bundles: Path, entered: Enter) -> None:
    entered(1)
    reconcile(ledger, registry, bundles)
    release(ledger, bundles, 1)
    registry.set_alias("champion", 1)  # as far as a run got before it was killed
    assert reconcile(ledger, registry, bundles).surprises == ()


def test_a_lost_mlflow_is_filled_again_from_the_ledger(
    ledger: Ledger, registry: Registry, bundles: Path, entered: Enter, empty_mlflow: Path, tmp_path: Path
) -> None:
    digests = {version: entered(version).digest for version in (1, 2)}
    release(ledger, bundles, 1)
    reconcile(ledger, registry, bundles)
    shutil.copy(empty_mlflow, tmp_path / "fresh.db")
    fresh = Registry(f"sqlite:///{tmp_path / 'fresh.db'}", "flight-delay")
    found = reconcile(ledger, fresh, bundles)
    assert fresh.digests() == digests
    assert fresh.aliases() == {"champion": 1, "candidate": 2}
    assert len(found.surprises) == 2


def test_a_ledger_that_was_replaced_is_reported(
    ledger: Ledger, registry: Registry, bundles: Path, entered: Enter, enter: Enter
) -> None:
    entered(1)
    reconcile(ledger, registry, bundles)
    release(ledger, bundles, 1)
    reconcile(ledger, registry, bundles)
    for path in Path(ledger.place).parent.glob("ledger.sqlite*"):
        path.unlink()
    enter(1)
    found = reconcile(ledger, registry, bundles)
    assert [surprise for surprise in found.surprises if "cut short or replaced" in surprise]


def test_another_bundle_under_a_number_is_refused(
    ledger: Ledger, registry: Registry, bundles: Path, enter: Enter
) -> None:
    enter(1)
    registry.register(enter(2))
    with pytest.raises(RegistryUnavailable, match="another bundle"):
        reconcile(ledger, registry, bundles)


def test_without_mlflow_a_rollback_stands_and_warns(ledger: Ledger, bundles: Path, entered: Enter) -> None:
    entered(1)
    entered(2)
    release(ledger, bundles, 1)
    release(ledger, bundles, 2)
    assert commands.rollback(ledger, by="Ada", bundles=bundles) == (2, 1)
    warnings = reconcile_or_warn(ledger, "http://127.0.0.1:9", bundles)
    assert len(warnings) == 1
    assert "behind the ledger" in warnings[0]
    assert current_state(ledger).champion == 1


def test_nothing_released_needs_no_mlflow(ledger: Ledger, bundles: Path) -> None:
    assert reconcile_or_warn(ledger, "http://127.0.0.1:9", bundles) == []
