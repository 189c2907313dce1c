"""Aliases that somebody moves while nothing else does, on a real MLflow database."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flightdeck.inference.bundle import Bundle
from flightdeck.release.ledger import Ledger
from flightdeck.release.reconciler import reconcile
from flightdeck.release.registry import Registry
from flightdeck.release.rollout import alias_watch
from flightdeck.release.rollout.alias_watch import AliasWatch
from tests import release_desk as commands

PATIENCE_S = 60.0


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watch(
    ledger: Ledger, registry: Registry, bundles: Path, enter: Callable[..., Bundle], said: list[str]
) -> AliasWatch:
    """Return a watch over version 1 in prod and version 2, with aliases that are right."""
    for version in (1, 2):
        assert registry.register(enter(version)) == version
    commands.approve(ledger, 1, by="Ada", bundles=bundles)
    commands.bring(ledger, 1, "prod", bundles=bundles)
    reconcile(ledger, registry, bundles)
    return AliasWatch(ledger, registry.uri, bundles, said.append)


def alerts(ledger: Ledger) -> list[str]:
    return [record.detail["what"] for record in ledger.records() if record.action == "alert"]


def test_an_alias_that_was_moved_is_put_back_and_reported_once(
    watch: AliasWatch, ledger: Ledger, registry: Registry, said: list[str]
) -> None:
    assert [watch.look(), watch.look()] == [False, False]
    registry.set_alias("champion", 2)
    assert [watch.look(), watch.look(), watch.look()] == [True, False, False]
    assert registry.aliases()["champion"] == 1, "it is not followed"
    assert alerts(ledger) == ["alias champion was moved in MLflow from 1 to 2; put back"]
    assert said == alerts(ledger)


def test_a_decision_whose_alias_is_yet_to_come_is_no_alert(
    watch: AliasWatch, ledger: Ledger, registry: Registry, bundles: Path
) -> None:
    watch.look()
    commands.approve(ledger, 2, by="Ada", bundles=bundles)
    commands.bring(ledger, 2, "canary", bundles=bundles)
    assert watch.look(), "the command has not come to the aliases"
    commands.bring(ledger, 2, "prod", bundles=bundles)
    assert watch.look(), "the ledger has moved: it is another difference"
    assert not watch.look()
    assert (registry.aliases(), alerts(ledger)) == ({"champion": 2}, [])


def test_an_mlflow_that_is_away_is_no_error(watch: AliasWatch, ledger: Ledger, bundles: Path, said: list[str]) -> None:
    away = AliasWatch(ledger, "http://127.0.0.1:9", bundles, said.append)
    assert [away.look(), away.look(), said, alerts(ledger)] == [False, False, [], []]


def test_the_thread_finds_it_and_what_was_decided_last_is_followed_at_the_end(
    watch: AliasWatch, ledger: Ledger, registry: Registry, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_watch, "LOOK_S", 0.05)
    monkeypatch.setattr(alias_watch, "AGAIN_S", 0.05)
    watch.start()
    registry.set_alias("champion", 2)
    deadline_s = time.monotonic() + PATIENCE_S
    while not alerts(ledger):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    commands.approve(ledger, 2, by="Ada", bundles=bundles)
    commands.bring(ledger, 2, "canary", bundles=bundles)
    watch.follow()
    watch.stop()
    assert registry.aliases() == {"champion": 1, "canary": 2}
    assert len(alerts(ledger)) == 1
    assert "aliases" not in {thread.name for thread in threading.enumerate()}
