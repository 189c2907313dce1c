"""Where a model version comes from and what became of it, as a tree of text for people.

Everything comes in as plain values; the command line collects them (`flightdeck.cli.lineage`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flightdeck.core.errors import NotFoundError, some
from flightdeck.lineage.graph import LineageGraph, Node
from flightdeck.lineage.identity import stream_node

SHOWN = 12  # characters of a digest: enough to tell apart, short enough to read
DECISIONS = ("promoted", "rejected", "rolled_back", "frozen", "thawed", "superseded")


@dataclass(frozen=True)
class Branch:
    """One line of a tree and what hangs below it; `tone` is good, bad, or empty where it is neither."""

    label: str
    children: tuple["Branch", ...] = ()
    tone: str = ""

    def lines(self, depth: int = 0) -> list[str]:
        """Return the tree as lines, two spaces a level."""
        below = [line for child in self.children for line in child.lines(depth + 1)]
        return ["  " * depth + self.label, *below]


def stream_sources(graph: LineageGraph, data_versions: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Node]]:
    """Return for each stream the deliveries of sources that the graph saw its version come from, in one query."""
    nodes = {stream: stream_node(stream, read["version"], read["digest"]) for stream, read in data_versions.items()}
    found = graph.origins(list(nodes.values()), "source")
    return {stream: found[node] for stream, node in nodes.items()}


def trace(
    version: int,
    *,
    records: Sequence[Mapping[str, Any]],
    training: Mapping[str, Any],
    sources: Mapping[str, Sequence[Node]],
    ingestion: Mapping[str, Any],
    notes: Iterable[str] = (),
) -> Branch:
    """Return the lineage of a model version: sources, streams, views, model, verdict, approvals, stage.

    Parameters
    ----------
    version
        Version in the model registry.
    records
        Records of the ledger, oldest first, as mappings.
    training
        Content of the bundle's `training.json`; empty where the bundle cannot be opened.
    sources
        Deliveries behind each stream, as `stream_sources` returns them.
    ingestion
        Content of the ingestion report; empty where there is none.
    notes
        What the reader should know first, such as a bundle that could not be opened.

    Raises
    ------
    NotFoundError
        If the ledger never saw the version, naming those it knows.
    """
    own = [record for record in records if record["subject"] == str(version)]
    registered = require_registered(version, records)
    detail = registered["detail"]
    return Branch(
        f"model version {version} of {detail.get('model_name', '?')}",
        (
            *(Branch(note) for note in notes),
            Branch("sources", tuple(source_lines(sources, ingestion))),
            Branch("event log", tuple(stream_lines(training, sources))),
            Branch("feature views", tuple(view_lines(training))),
            Branch("model", tuple(_model_lines(detail, training))),
            Branch("verdict", tuple(_verdict_lines(own))),
            Branch("approvals", tuple(_approval_lines(own))),
            Branch("stage", tuple(_stage_lines(records, str(version)))),
        ),
    )


def require_registered(version: int, records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record that entered a version.

    Raises
    ------
    NotFoundError
        If the ledger never saw the version, naming those it knows.
    """
    entered = [record for record in records if record["action"] == "registered"]
    found = next((record for record in entered if record["subject"] == str(version)), None)
    if found is not None:
        return found
    known = sorted({int(record["subject"]) for record in entered})
    raise NotFoundError(
        f"tracing model version {version}: the ledger has no such version; versions there: "
        f"{some(known, limit=20) or 'none'}",
        next_step="see them with kedro release list" if known else "make one: kedro run --config kedro.yml",
    )


def source_lines(sources: Mapping[str, Sequence[Node]], ingestion: Mapping[str, Any]) -> Iterable[Branch]:
    """Yield the source files behind the streams, with their digests."""
    counts: Mapping[str, Any] = ingestion.get("sources", {})
    seen = sorted({(node.name, node.version) for nodes in sources.values() for node in nodes})
    for name, digest in seen:
        count = counts.get(name, {})
        rows = f", {_rows(count)}" if count.get("sha256") == digest else ""
        yield Branch(f"{name} sha256 {digest[:SHOWN]}{rows}")
    if not seen:
        for name, count in sorted(counts.items()):
            digest = str(count.get("sha256", "unknown"))[:SHOWN]
            yield Branch(f"{name} sha256 {digest}, {_rows(count)} (of the last ingestion)")
    if not seen and not counts:
        yield Branch("not recorded: neither a lineage graph nor an ingestion report")


def _rows(count: Mapping[str, Any]) -> str:
    return f"{count.get('n_rows', 0):,} rows, {count.get('n_quarantined', 0):,} of them in quarantine"


def stream_lines(training: Mapping[str, Any], sources: Mapping[str, Sequence[Node]]) -> Iterable[Branch]:
    """Yield the versions of the event log that were read."""
    for stream, read in sorted(training.get("data_versions", {}).items()):
        origins = sorted({node.name for node in sources.get(stream, ())})
        from_sources = f" <- {', '.join(origins)}" if origins else ""
        digest = str(read["digest"])[:SHOWN]
        yield Branch(f"{stream} version {read['version']}, {read['n_rows']:,} events, digest {digest}{from_sources}")


def view_lines(training: Mapping[str, Any]) -> Iterable[Branch]:
    """Yield the feature views, with their digests."""
    read_by: Mapping[str, Sequence[str]] = training.get("view_sources", {})
    for view, digest in sorted(training.get("views", {}).items()):
        from_streams = f" <- {', '.join(sorted(read_by[view]))}" if view in read_by else ""
        yield Branch(f"{view} digest {digest[:SHOWN]}{from_streams}")


def _model_lines(detail: Mapping[str, Any], training: Mapping[str, Any]) -> Iterable[Branch]:
    facts = {
        "bundle": str(detail.get("digest", ""))[:SHOWN],
        "model file": str(training.get("model_digest", ""))[:SHOWN],
        "git commit": training.get("git_commit", ""),
        "requirements.lock": str(training.get("lock_digest", ""))[:SHOWN],
        "seed": training.get("seed", ""),
        "column functions": len(training.get("nodes", ())) or "",
        "MLflow run": detail.get("mlflow_run_id") or training.get("mlflow_run_id") or "",
        "test AUC": _rounded((training.get("metrics") or {}).get("auc")),
    }
    return (Branch(f"{name} {value}") for name, value in facts.items() if value != "")


def _verdict_lines(own: Iterable[Mapping[str, Any]]) -> Iterable[Branch]:
    verdicts = [record for record in own if record["action"] == "verdict"]
    for record in verdicts:
        detail = record["detail"]
        failed = f": {some(detail['failed'])}" if detail.get("failed") else ""
        outcome = "passed" if detail.get("passed") else "failed"
        checks = f"{detail['n_checks']} checks, " if "n_checks" in detail else ""
        yield Branch(f"{outcome}{failed} ({checks}tier {detail.get('tier', '?')}), {when(record)}")
    if not verdicts:
        yield Branch("none yet")


def _approval_lines(own: Iterable[Mapping[str, Any]]) -> Iterable[Branch]:
    approvals = [record for record in own if record["action"] == "approved"]
    for record in approvals:
        reason = f": {record['detail']['reason']}" if record["detail"].get("reason") else ""
        digest = str(record["detail"].get("digest", ""))[:SHOWN]
        yield Branch(f"{record['actor']} approved bundle {digest}, {when(record)}{reason}")
    if not approvals:
        yield Branch("none yet")


def _stage_lines(records: Iterable[Mapping[str, Any]], version: str) -> Iterable[Branch]:
    """Tell every step of the version, and what happened to it when another version moved."""
    for record in records:
        action, detail, own = record["action"], record["detail"], record["subject"] == version
        by = f"by {record['actor']}, {when(record)}"
        if own and action == "registered":
            yield Branch(f"candidate {by}")
        elif own and action in DECISIONS:
            share = f" for {detail['share']:.0%} of the units" if "share" in detail else ""
            step = f"promoted to {detail.get('to')}{share}" if action == "promoted" else action.replace("_", " ")
            yield Branch(f"{step} {by}")
        elif action == "promoted" and str(detail.get("replaces")) == version:
            yield Branch(f"archived: version {record['subject']} replaced it {by}")
        elif action == "rolled_back" and str(detail.get("to")) == version:
            yield Branch(f"back in prod: version {record['subject']} was rolled back {by}")


def when(record: Mapping[str, Any]) -> str:
    """Return when a record was made."""
    return f"{record['recorded_at']:%Y-%m-%d %H:%M:%S} UTC"


def _rounded(value: object) -> str:
    return f"{value:.3f}, both horizons together" if isinstance(value, float) else ""
