"""Why a version has the traffic that it has: everything from the source files to its place in the routing table.

Everything comes in as plain values; the command line collects them (`flightdeck.cli.release_why`). Each list is
bounded: the newest lines are shown and the rest counted, so a long history makes no longer page.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flightdeck.lineage.graph import Node
from flightdeck.lineage.queries import (
    SHOWN,
    Branch,
    require_registered,
    source_lines,
    stream_lines,
    view_lines,
    when,
)
from flightdeck.lineage.rollout_steps import RolloutStep, how_it_ended, moves, rollout_steps

MAX_LINES = 20
MAX_FIGURES = 6  # of the judge's metrics in one line
TONES = {"pass": "good", "fail": "bad", "error": "bad"}
_VOIDING = ("approval_revoked", "tier_changed")
_EVENTS = (
    "frozen",
    "thawed",
    "rolled_back",
    "rejected",
    "superseded",
    "refused",
    "rehearsed",
    "reviewed",
    "tier_changed",
)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """What is known of one version outside the ledger.

    Parameters
    ----------
    training
        Content of the bundle's `training.json`; empty where the bundle cannot be opened.
    checks
        Checks of the bundle's verdict: `name`, `value`, `threshold`, `passed`, `blocking`, `detail`.
    sources
        Deliveries behind each stream.
    n_files
        Files of the bundle that were compared with its manifest.
    roles
        What the version does in the routing table now, in words.
    notes
        What the reader should know first.
    labels
        What the label check has come to; empty without one.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    sources: Mapping[str, Sequence[Node]] = field(default_factory=dict)
    n_files: int = 0
    roles: Sequence[str] = ()
    notes: Sequence[str] = ()
    labels: str = ""


def explain(
    version: int, *, records: Sequence[Record], known: Known, ingestion: Mapping[str, Any], now: datetime
) -> Branch:
    """Return the whole way of a version: sources, log, views, training, bundle, gate, approvals, rollout, traffic.

    Parameters
    ----------
    version
        Version in the model registry.
    records
        Records of the ledger, oldest first, as mappings; read twice, whatever the version.
    known
        What the bundle, the graph and the routing table say about it.
    ingestion
        Content of the ingestion report; empty where there is none.
    now
        Approvals that ran out before are said to have.

    Raises
    ------
    NotFoundError
        If the ledger never saw the version, naming those it knows.
    """
    detail = require_registered(version, records)["detail"]
    about = [record for record in records if record["subject"] == str(version) or moves(record, version)]
    own = [record for record in about if record["subject"] == str(version)]
    parts = {
        "traffic now": _traffic(known.roles),
        "source files": source_lines(known.sources, ingestion),
        "event log": stream_lines(known.training, known.sources),
        "feature views": view_lines(known.training),
        "training run": _training(detail, known.training),
        "bundle": _bundle(detail, known),
        "gate": _gate(own, known.checks),
        "approvals": _approvals(own, now),
        "rollout": (*_rollout(version, about), *([Branch(known.labels)] if known.labels else [])),
        "freezes, rollbacks, refusals": _events(about),
    }
    children = (Branch(title, _bounded(tuple(lines))) for title, lines in parts.items())
    notes = (Branch(note, tone="bad") for note in known.notes)
    return Branch(f"version {version} of {detail.get('model_name', '?')}", (*notes, *children))


def _bounded(lines: tuple[Branch, ...]) -> tuple[Branch, ...]:
    if not lines:
        return (Branch("none"),)
    more = len(lines) - MAX_LINES
    return lines if more <= 0 else (Branch(f"{more:,} earlier ones: kedro release show"), *lines[more:])


def _traffic(roles: Sequence[str]) -> Iterator[Branch]:
    yield from (Branch(role, tone="good") for role in roles)
    if not roles:
        yield Branch("no place in the routing table: nothing is answered by it")


def _training(detail: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[Branch]:
    splits = ", ".join(f"{name.replace('_', ' ')} {_ends(at)}" for name, at in training.get("splits", {}).items())
    metrics = training.get("metrics") or {}
    facts = {
        "git commit": training.get("git_commit", ""),
        "requirements.lock": str(training.get("lock_digest", ""))[:SHOWN],
        "seed": training.get("seed", ""),
        "split": splits,
        "column functions": len(training.get("nodes", ())) or "",
        "training set": str((training.get("training_set") or {}).get("digest", ""))[:SHOWN],
        "MLflow run": detail.get("mlflow_run_id") or training.get("mlflow_run_id") or "",
        "author": detail.get("author") or "",
        "test AUC": f"{metrics['auc']:.4g}" if isinstance(metrics.get("auc"), float) else "",
    }
    yield from (Branch(f"{name} {value}") for name, value in facts.items() if value != "")


def _ends(at: object) -> str:
    return " to ".join(map(str, at)) if isinstance(at, list) else str(at)


def _bundle(detail: Mapping[str, Any], known: Known) -> Iterator[Branch]:
    whole = f", {known.n_files} files compared with it" if known.n_files else ", not compared"
    yield Branch(f"bundle {detail.get('digest', '')}{whole}", tone="good" if known.n_files else "bad")
    for name, digest in (
        ("content", detail.get("content_digest")),
        ("model", known.training.get("model_digest") or detail.get("model_digest")),
    ):
        if digest:
            yield Branch(f"{name} {digest}")


def _gate(own: Iterable[Record], checks: Sequence[Mapping[str, Any]]) -> Iterator[Branch]:
    for record in (record for record in own if record["action"] == "verdict"):
        detail = record["detail"]
        word = "passed" if detail.get("passed") else f"failed: {', '.join(detail.get('failed', ()))}"
        counted = f"{detail['n_checks']} checks, " if "n_checks" in detail else ""
        said = f"{word} ({counted}tier {detail.get('tier', '?')}), by {record['actor']}, {when(record)}"
        yield Branch(said, tone="good" if detail.get("passed") else "bad")
    missed = [check for check in checks if not check["passed"]]
    if checks:
        yield Branch(f"{len(checks) - len(missed)} of {len(checks)} checks met", tuple(map(_check, missed)))


def _check(check: Mapping[str, Any]) -> Branch:
    word = "failed" if check["blocking"] else "advisory, not met"
    value, bound = ("none" if check.get(name) is None else f"{check[name]:.4g}" for name in ("value", "threshold"))
    return Branch(f"{check['name']} {word}: {value}, bound {bound}", tone="bad" if check["blocking"] else "")


def _approvals(own: Iterable[Record], now: datetime) -> Iterator[Branch]:
    approvals = list[tuple[Record, str]]()
    for record in own:
        if record["action"] == "approved":
            approvals.append((record, ""))
        elif record["action"] in _VOIDING:
            name = record["detail"].get("name")
            approvals = [
                (given, why if why or name not in (None, given["actor"]) else f"void since record {record['seq']}")
                for given, why in approvals
            ]
    for given, why in approvals:
        detail = given["detail"]
        until = detail.get("expires_at")
        if not why and until and datetime.fromisoformat(until) < now:
            why = "expired since"
        facts = (
            f"as {', '.join(detail['roles'])}" if detail.get("roles") else "",
            f"known by {detail['proof']}" if detail.get("proof") else "",
            when(given),
            f"until {until[:16].replace('T', ' ')} UTC" if until else "",
            f"bundle {str(detail.get('digest', ''))[:SHOWN]}",
            f"policy {str(detail['policy_digest'])[:SHOWN]}" if detail.get("policy_digest") else "",
            why,
        )
        reason = f": {detail['reason']}" if detail.get("reason") else ""
        said = f"{given['actor']}, {', '.join(fact for fact in facts if fact)}{reason}"
        yield Branch(said, tone="bad" if why.startswith("void") else "good")


def _rollout(version: int, about: Iterable[Record]) -> Iterator[Branch]:
    for step in rollout_steps(version, about):
        share = f" {step.share:.0%}" if step.share else ""
        ended = how_it_ended(version, step)
        until = f", {ended}" if ended else ", still there"
        yield Branch(f"{step.stage}{share} since {when(step.began)} (record {step.began['seq']}){until}", _seen(step))


def _seen(step: RolloutStep) -> tuple[Branch, ...]:
    """Return the newest evidence of a step, and what froze it."""
    lines = []
    if len(step.judged) > 1:
        lines.append(Branch(f"judged {len(step.judged):,} times, at last:"))
    for record in step.judged[-1:]:
        detail = record["detail"]
        figures = "".join(f"; {figure}" for figure in evidence_figures(detail.get("metrics") or {}))
        said = f"{detail['verdict']} after {detail['n_requests']:,} requests, {when(record)}{figures}"
        lines.append(Branch(said, tone=TONES.get(detail["verdict"], "")))
    if step.frozen is not None:
        lines.append(Branch(f"frozen by {step.frozen['actor']}: {step.frozen['detail'].get('reason', '')}", tone="bad"))
    return tuple(lines)


def evidence_figures(metrics: Mapping[str, Any]) -> list[str]:
    """Return the figures of a `judged` record in words: a canary's metrics, or the report of a shadow."""
    found = []
    for name, said in metrics.items():
        if isinstance(said, Mapping) and "outcome" in said:
            found.append(f"{name} {said['outcome']} ({said.get('reason', '')})")
        elif isinstance(said, int | float) and not isinstance(said, bool):
            found.append(f"{name.replace('_', ' ')} {said:.4g}")
    everything = metrics.get("groups", {}).get("all") if isinstance(metrics.get("groups"), Mapping) else None
    if everything:
        found.append(f"mean difference {everything['mean_difference']:+.4g}")
    return found[:MAX_FIGURES]


def _events(about: Iterable[Record]) -> Iterator[Branch]:
    for record in about:
        action, detail = record["action"], record["detail"]
        if action == "routed":
            yield Branch(f"routes: {detail.get('what', '')}, by {record['actor']}, {when(record)}")
        if action not in _EVENTS:
            continue
        word = (
            f"refused to {detail.get('what', '').replace('_', ' ')}"
            if action == "refused"
            else action.replace("_", " ")
        )
        facts = {
            "rolled_back": f" from {detail.get('stage', '?')}, {_answers(detail.get('to'))}",
            "rehearsed": f" the rollback to {detail.get('to')} in {detail.get('duration_s', 0):.3g} s",
            "superseded": f" by version {detail.get('by')}",
            "tier_changed": f" from {detail.get('from')} to {detail.get('to')}",
        }.get(action, "")
        reason = f": {detail['reason']}" if detail.get("reason") else ""
        subject = f"version {record['subject']} " if action == "rolled_back" else ""
        tone = "" if action in ("thawed", "rehearsed", "reviewed", "tier_changed") else "bad"
        yield Branch(f"{subject}{word}{facts}, {record['actor']}, {when(record)}{reason}", tone=tone)


def _answers(version: object) -> str:
    return f"version {version} answers" if version is not None else "no champion answers"
