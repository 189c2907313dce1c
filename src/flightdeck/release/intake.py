"""From a draft that has passed its gate to a candidate in the ledger: seal, register in MLflow, record.

Each step may be interrupted and repeated with the same draft and the same facts: sealing them gives the same bundle,
registering the same bundle gives the same version, and the ledger takes each of them once. A new run of the pipeline
after a crash is no repetition: its manifest has another run id and its evidence other times, so it makes another bundle
and another version. What the crash left, a bundle or a version in MLflow that the ledger does not know, is never
served and may stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.errors import BundleRefused, NotFoundError, ReleaseRefused
from flightdeck.core.failpoints import failpoint
from flightdeck.gates.verdict import Verdict
from flightdeck.inference.bundle import Bundle, content_digest, open_bundle, seal
from flightdeck.release.commands import record_verdict, register
from flightdeck.release.ledger import Ledger
from flightdeck.release.people import Person
from flightdeck.release.reconciler import reconcile, restore_lost_versions
from flightdeck.release.registry import Registry
from flightdeck.release.state import fold


@dataclass(frozen=True)
class Champion:
    """What a candidate is compared with.

    Parameters
    ----------
    version
        Its version, or None before the first.
    path
        Folder of its bundle, or None.
    problem
        Why its bundle cannot be read, or empty.
    """

    version: int | None = None
    path: Path | None = None
    problem: str = ""


def find_champion(ledger: Ledger, bundles: Path) -> Champion:
    """Return the champion's bundle, verified; one that does not verify is named with the reason.

    Whether a candidate may be made without a look at it is for the gate to say, by `advisory` of the risk tier.
    """
    state = fold(ledger.records())
    if state.champion is None:
        return Champion()
    digest = state.versions[state.champion].digest
    path = bundles / digest[:16]
    try:
        open_bundle(path, expected_digest=digest)
    except (NotFoundError, BundleRefused) as error:
        return Champion(state.champion, path, error.message)
    return Champion(state.champion, path)


def enter_candidate(
    draft: Path,
    verdict: Verdict,
    *,
    bundles: Path,
    ledger: Ledger,
    registry: Registry,
    by: Person,
    facts: Mapping[str, object],
    run_id: str | None = None,
    author: str = "",
) -> tuple[int, Bundle]:
    """Seal a draft, register it and enter it with its verdict into the ledger.

    Parameters
    ----------
    draft
        Folder of the draft, evaluation evidence included.
    verdict
        What the gate said about it.
    bundles
        Folder of the sealed bundles.
    ledger, registry
        Where to enter it.
    by
        Who enters it, usually the pipeline.
    facts
        More about its making, for the manifest and the ledger.
    run_id
        MLflow run that trained it.
    author
        Who made it: that person cannot approve it.

    Returns
    -------
    tuple of int and Bundle
        Version and sealed bundle.

    Raises
    ------
    ReleaseRefused
        If the verdict is about other content or is no pass.
    RegistryUnavailable
        If MLflow does not answer; nothing has entered the ledger then.
    """
    subject = content_digest(draft)
    if verdict.subject != subject or not verdict.passed:
        raise ReleaseRefused(
            f"sealing {draft}: the verdict is about {verdict.subject[:16]} (passed: {verdict.passed}), "
            f"the draft is {subject[:16]}",
            next_step="run the gate on this draft: kedro run --config kedro.yml",
        )
    metadata = {**facts, "content_digest": subject, "tier": verdict.tier}
    bundle = seal(draft, bundles, name=registry.model_name, metadata=metadata)
    failpoint("intake.sealed")
    restore_lost_versions(fold(ledger.records()), registry, bundles)
    version = registry.register(bundle, run_id=run_id, tags={"tier": verdict.tier, "gate": "passed"})
    failpoint("intake.in_registry")
    register(
        ledger,
        version,
        bundle=bundle,
        model_name=registry.model_name,
        tier=verdict.tier,
        by=by,
        author=author,
        facts=metadata,
    )
    failpoint("intake.in_ledger")
    if fold(ledger.records()).versions[version].verdict_passed is None:
        record_verdict(ledger, version, verdict, bundle=bundle, by=by)
    failpoint("intake.judged")
    reconcile(ledger, registry, bundles)
    return version, bundle
