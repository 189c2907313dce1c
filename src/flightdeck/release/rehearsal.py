"""A rollback performed for practice: against a running service of its own, whose ledger says what the real one will.

The scratch house has the real bundles (as links to the same files), the real online store, and a ledger of its own in
which the version that is rehearsed is live beside the one to return to. What is measured is the time from the order
until no answer comes from the version any more; afterwards every item must be answered as it was before the version
came, to the last bit.
"""

import http.client
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flightdeck.core.clock import Clock
from flightdeck.core.errors import FlightdeckError, ReleaseRefused
from flightdeck.core.layout import Layout
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.moves import version_state
from flightdeck.release.stages import ReleaseState

SHARE = 0.5
PATIENCE_S = 30.0
N_AT_LEAST = 20
ACTOR = "rehearsal"
Body = Mapping[str, Any]


class RehearsalFailed(FlightdeckError):
    """The rollback did not do what it promises."""

    exit_code = 3


@dataclass(frozen=True)
class Practice:
    """Which way back is practised.

    Parameters
    ----------
    out, back
        Version that is taken out, and version that answers afterwards.
    """

    out: int
    back: int


def way_back(state: ReleaseState, version: int) -> Practice:
    """Return the rollback that would follow if `version` went live now.

    Raises
    ------
    ReleaseRefused
        If the version is unknown, or there is no champion to return to.
    """
    version_state(state, version)
    back = state.previous_champions[-1] if version == state.champion and state.previous_champions else state.champion
    if back is None or back == version:
        raise ReleaseRefused(
            f"rehearsing the rollback of version {version}: there is no other champion to return to",
            next_step="release a first version; its own rollback has nowhere to go",
        )
    return Practice(version, back)


def furnish(scratch: Path, where: Layout, state: ReleaseState, practice: Practice, clock: Clock) -> Ledger:
    """Furnish a house for a service in `scratch`, and return its ledger: `back` in prod, `out` in canary.

    Parameters
    ----------
    scratch
        Empty folder on the file system of the bundles.
    where
        The real house; nothing of it is written to.
    state
        What the real ledger says.
    practice
        Which way back is practised.
    clock
        Of the ledger.
    """
    place = Layout(scratch)
    ledger = open_ledger(place.ledger, clock)
    for version in (practice.back, practice.out):
        known = state.versions[version]
        name = known.digest[:16]
        shutil.copytree(where.bundles / name, place.bundles / name, copy_function=_link)
        subject = str(version)
        entered: dict[str, object] = {"digest": known.digest, "tier": known.tier, "model_name": known.model_name}
        ledger.append("registered", actor=ACTOR, subject=subject, detail=entered)
        steps: list[dict[str, object]] = [{"to": "staging"}, {"to": "canary", "share": SHARE}]
        if version == practice.back:
            steps.append({"to": "prod"})
        for step in steps:
            ledger.append("promoted", actor=ACTOR, subject=subject, detail={"digest": known.digest, **step})
    if where.online_store.exists():
        place.online_store.parent.mkdir(parents=True, exist_ok=True)
        place.online_store.symlink_to(where.online_store, target_is_directory=True)
    return ledger


def perform(url: str, ledger: Ledger, state: ReleaseState, practice: Practice, requests: Sequence[Body]) -> float:
    """Order the rollback and wait until nothing comes from the version that is taken out; return the seconds it took.

    Parameters
    ----------
    url
        Address of the service, which has loaded both versions.
    ledger
        Its ledger.
    state
        What the real ledger says: the digests.
    practice
        Which way back is practised.
    requests
        Bodies of predictions, of different units; those of both versions must be among them.

    Raises
    ------
    RehearsalFailed
        If a request fails, the two versions do not both answer before, or an answer afterwards is another one than the
        version returned to gives.
    """
    if len(requests) < N_AT_LEAST:
        raise RehearsalFailed(f"rehearsing: {len(requests)} requests, at least {N_AT_LEAST} are needed")
    client = _Client(url)
    before = client.ask_until_both(requests, {practice.out, practice.back})
    alone = {body["unit_id"]: said for body, said in zip(requests, before, strict=True) if _from(said, practice.back)}
    detail = {
        "digest": state.versions[practice.out].digest,
        "from": practice.out,
        "to": practice.back,
        "stage": "canary",
        "reason": "rehearsed",
    }
    began_s = time.monotonic()
    ledger.append("rolled_back", actor=ACTOR, subject=str(practice.out), detail=detail)
    after, took_s = client.ask_until_gone(requests, practice.out, began_s)
    for body, said in zip(requests, after, strict=True):
        if not _from(said, practice.back):
            raise RehearsalFailed(f"rehearsing: after the rollback {body['unit_id']} is answered by {_versions(said)}")
        if body["unit_id"] in alone and _values(said) != _values(alone[body["unit_id"]]):
            raise RehearsalFailed(f"rehearsing: after the rollback {body['unit_id']} is answered otherwise than before")
    return took_s


class _Client:
    """Asks a service, a connection a request so that every worker has its turn."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def ask_until_both(self, requests: Sequence[Body], versions: set[int]) -> list[list[Any]]:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            said = [self._ask(body) for body in requests]
            if {version for one in said for version in _versions(one)} >= versions:
                return said
            if time.monotonic() > deadline_s:
                found = sorted({version for one in said for version in _versions(one)})
                raise RehearsalFailed(
                    f"rehearsing: only the versions {found} answer, {sorted(versions)} should; "
                    f"modes: {sorted({one['mode'] for answer in said for one in answer})}",
                    next_step="see why a bundle is refused: kedro serve, then /readyz",
                )

    def ask_until_gone(self, requests: Sequence[Body], out: int, began_s: float) -> tuple[list[list[Any]], float]:
        while True:
            said = [self._ask(body) for body in requests]
            took_s = time.monotonic() - began_s
            if all(out not in _versions(one) for one in said):
                return said, took_s
            if took_s > PATIENCE_S:
                raise RehearsalFailed(f"rehearsing: {took_s:.0f} s after the rollback version {out} still answers")

    def _ask(self, body: Body) -> list[Any]:
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/v1/predictions", json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise RehearsalFailed(f"rehearsing: the service does not answer: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise RehearsalFailed(f"rehearsing: a request failed with {reply.status}: {content[:300]!r}")
        found: list[Any] = json.loads(content)["predictions"]
        return found


def _versions(answer: Sequence[Any]) -> set[int]:
    return {int(one["model_version"]) for one in answer if one["model_version"] is not None}


def _from(answer: Sequence[Any], version: int) -> bool:
    return _versions(answer) == {version}


def _values(answer: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(one["probability"], one["mode"]) for one in answer]


def _link(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target
