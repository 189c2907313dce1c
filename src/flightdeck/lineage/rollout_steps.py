"""The steps of a version's rollout, from the records of the ledger: what each was, what was seen in it, how it ended.

Records are plain mappings, oldest first: `seq`, `recorded_at` (aware datetime), `action`, `actor`, `subject`, `detail`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]


@dataclass
class RolloutStep:
    """One stage and share of a version.

    Parameters
    ----------
    stage, share
        What it was; the share of a canary, in (0, 1], else None.
    began
        Record that began it.
    judged
        What the judge said in it, oldest first; what it took the version out by comes last.
    frozen
        Record that froze it; None where nothing did.
    ended
        Record that ended it; None for the present step.
    """

    stage: str
    share: float | None
    began: Record
    judged: list[Record] = field(default_factory=list)
    frozen: Record | None = None
    ended: Record | None = None


def moves(record: Record, version: int) -> bool:
    """Tell whether a record about another version, or about routes, moved `version` too."""
    action, detail = record["action"], record["detail"]
    if record["subject"] == str(version):
        return False
    if action == "promoted":
        return version in (detail.get("replaces"), detail.get("supersedes"))
    if action == "rolled_back":
        return bool(detail.get("to") == version and detail.get("stage", "prod") == "prod")
    return action == "routed" and version in detail.get("versions", ())


def rollout_steps(version: int, records: Iterable[Record]) -> list[RolloutStep]:
    """Return the steps of a version, oldest first, in one pass over the records."""
    steps = list[RolloutStep]()
    for record in records:
        is_own = record["subject"] == str(version)
        if not is_own and not moves(record, version):
            continue
        action, present = record["action"], steps[-1] if steps else None
        if action == "judged" and present is not None:
            present.judged.append(record)
        elif action == "frozen" and present is not None:
            present.frozen = record
        elif action in _ENDS:
            if present is not None and present.ended is None:
                present.ended = record
                present.judged += _evidence_of(record) if is_own else []
            following = _following(record, is_own, present)
            if following is not None:
                steps.append(following)
    return steps


_ENDS = ("registered", "promoted", "rejected", "superseded", "rolled_back", "thawed")


def _following(record: Record, is_own: bool, present: RolloutStep | None) -> RolloutStep | None:
    """Return the step that a record begins, None where the version has left."""
    action, detail = record["action"], record["detail"]
    if action == "registered":
        return RolloutStep("candidate", None, record)
    if action == "promoted" and is_own:
        return RolloutStep(str(detail["to"]), detail.get("share"), record)
    if action == "thawed" and present is not None:
        return RolloutStep(present.stage, present.share, record)
    if action == "rolled_back" and not is_own:
        return RolloutStep("prod", None, record)
    return None


def _evidence_of(record: Record) -> list[Record]:
    """Return what the judge knew when it took a version out, which its record holds, in the form of `judged`."""
    evidence = record["detail"].get("evidence")
    return [{**record, "detail": {"verdict": "fail", **evidence}}] if evidence else []


def how_it_ended(version: int, step: RolloutStep) -> str:
    """Return in words what ended a step, empty for one that goes on."""
    record = step.ended
    if record is None:
        return ""
    action, detail = record["action"], record["detail"]
    if record["subject"] != str(version):
        word = "replaced by" if detail.get("replaces") == version else "gave way to"
        return f"{word} version {record['subject']}"
    if action == "promoted":
        share = f" {detail['share']:.0%}" if detail.get("share") else ""
        how = "emergency, " if detail.get("is_emergency") else "override, " if detail.get("is_override") else ""
        return f"moved on to {detail['to']}{share} ({how}by {record['actor']})"
    said = {"thawed": "let go on", "rolled_back": "taken out", "superseded": f"gave way to version {detail.get('by')}"}
    reason = f": {detail['reason']}" if detail.get("reason") else ""
    return f"{said.get(action, action)} by {record['actor']}{reason}"
