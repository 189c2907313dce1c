"""The reconciler makes MLflow's aliases say what the ledger says, and reports what somebody changed there by hand.

It leaves the ledger's head in the registered model as a checkpoint (`ledger_head`): the next run can tell an alias
that is merely behind from one that was moved, and a ledger that was cut short or replaced from one that grew. MLflow is
never followed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.failpoints import failpoint
from flightdeck.release.ledger import Ledger
from flightdeck.release.record import Record
from flightdeck.release.registry import Registry, RegistryUnavailable
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

ACTOR = "reconciler"
HEAD_TAG = "ledger_head"
ALIASES = ("champion", "canary", "candidate")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciliation:
    """What one run of the reconciler did.

    Parameters
    ----------
    changes
        Aliases that were set or taken away, as `champion: 2 -> 3`.
    surprises
        What had changed behind our back; each is an alert in the ledger too.
    """

    changes: tuple[str, ...] = ()
    surprises: tuple[str, ...] = ()


def expected_aliases(state: ReleaseState) -> dict[str, int]:
    """Return the version that each alias should point to; an alias without a version is left out."""
    wanted = {"champion": state.champion, "canary": state.canary, "candidate": state.candidate}
    return {alias: version for alias, version in wanted.items() if version is not None}


def reconcile(ledger: Ledger, registry: Registry, bundles: Path) -> Reconciliation:
    """Make the aliases and stage tags of `registry` equal the fold of `ledger`.

    Raises
    ------
    RegistryUnavailable
        If MLflow does not answer: nothing is lost, the next run continues.
    LedgerCorrupt
        If the ledger's chain is broken.
    """
    records = ledger.records()
    state = fold(records)
    if not state.versions:
        return Reconciliation()
    surprises = restore_lost_versions(state, registry, bundles)
    failpoint("reconcile.restored")
    head, found = registry.tag(HEAD_TAG), registry.aliases()
    news = ledger.records(records[-1].seq)  # after the aliases: these explain what another run has set meanwhile
    records, state = records + news, fold(news, state)
    wanted = expected_aliases(state)
    surprises += _moved_by_hand(records, found, wanted, head)
    told = {record.detail.get("what") for record in records[_reached(records, head) :] if record.action == "alert"}
    for surprise in (one for one in surprises if one not in told):  # a run that was interrupted may have told
        logger.warning("%s", surprise)
        record = ledger.append("alert", actor=ACTOR, subject="-", detail={"name": "registry-moved", "what": surprise})
        records.append(record)
        failpoint("reconcile.reported")
    changes = []
    for alias in ALIASES:
        if found.get(alias) != wanted.get(alias):
            registry.set_alias(alias, wanted.get(alias))
            failpoint("reconcile.alias_set")
            changes.append(f"{alias}: {found.get(alias, 'none')} -> {wanted.get(alias, 'none')}")
    for version in state.versions.values():
        registry.set_stage_tag(version.version, version.stage)
        failpoint("reconcile.stage_tagged")
    ledger.checkpoint_or_warn()
    failpoint("reconcile.signed")
    registry.set_tag(HEAD_TAG, f"{records[-1].seq}:{records[-1].digest}")
    failpoint("reconcile.head_left")
    return Reconciliation(tuple(changes), tuple(surprises))


def reconcile_or_warn(ledger: Ledger, uri: str, bundles: Path) -> list[str]:
    """Reconcile after a command and return warnings: a registry that is away must not undo what the ledger says."""
    try:
        model_name = fold(ledger.records()).model_name
        if model_name is None:
            return []
        return list(reconcile(ledger, Registry(uri, model_name), bundles).surprises)
    except RegistryUnavailable as error:
        return [f"MLflow's aliases are behind the ledger, which holds: {error.message}"]


def restore_lost_versions(state: ReleaseState, registry: Registry, bundles: Path) -> list[str]:
    """Register again, under their old numbers, the versions that the ledger knows and MLflow has lost; say which.

    Raises
    ------
    RegistryUnavailable
        If MLflow holds another bundle under a version's number, or will not give the number again.
    """
    known = registry.digests()
    restored = []
    for version in sorted(state.versions.values(), key=lambda v: v.version):
        if version.version not in known:
            registry.restore(version.version, version.digest, (bundles / version.digest[:16]).absolute().as_uri())
            restored.append(f"MLflow had lost version {version.version}: registered again from the ledger")
        elif known[version.version] != version.digest:
            raise RegistryUnavailable(
                f"MLflow's version {version.version} of {registry.model_name!r} is another bundle than the ledger's",
                next_step="restore data/06_models/mlflow.db and data/06_models/ledger.sqlite from the same backup",
            )
    return restored


def _reached(records: Sequence[Record], head: str) -> int:
    """Return the record that the last whole run came to, 0 where there was none or the ledger is another one."""
    seq, _, digest = head.partition(":")
    is_there = seq.isdigit() and 0 < int(seq) <= len(records) and records[int(seq) - 1].digest == digest
    return int(seq) if is_there else 0


def _moved_by_hand(records: Sequence[Record], found: dict[str, int], wanted: dict[str, int], head: str) -> list[str]:
    """Return how MLflow differs from what the last run left there, apart from what an interrupted run did already."""
    if not head:
        return []
    reached = _reached(records, head)
    if not reached:
        seq = head.partition(":")[0]
        return [
            f"the ledger is not the one that MLflow was last reconciled with at record {seq}: cut short or replaced"
        ]
    state = fold(records[:reached])
    left = expected_aliases(state)
    ours = {alias: {left.get(alias), wanted.get(alias)} for alias in ALIASES}
    for record in records[reached:]:  # a run that was interrupted since may have set what was right at that moment
        state = fold([record], state)
        passed = expected_aliases(state)
        for alias in ALIASES:
            ours[alias].add(passed.get(alias))
    return [
        f"alias {alias} was moved in MLflow from {left.get(alias, 'none')} to {found.get(alias, 'none')}; put back"
        for alias in ALIASES
        if found.get(alias) not in ours[alias]
    ]
