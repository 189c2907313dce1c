"""Where a draft comes from, in a few lines for the reviewer."""

from collections.abc import Mapping

from flightdeck.gates.evidence import Evidence


def facts(evidence: Evidence) -> dict[str, object]:
    """Return what `training.json` and the predictions say about the making of a draft, in the order to read it."""
    training = evidence.training
    times = evidence.predictions["request_timestamp"]
    versions: Mapping[str, object] = training.get("data_versions", {})
    return {
        "model digest": training.get("model_digest", "unknown"),
        "git commit": training.get("git_commit", "unknown"),
        "lock file digest": training.get("lock_digest", "unknown"),
        "MLflow run": training.get("mlflow_run_id", "unknown"),
        "seed": training.get("seed", "unknown"),
        "data versions": ", ".join(f"{name} {_version(versions[name])}" for name in sorted(versions)) or "unknown",
        "feature views": ", ".join(sorted(training.get("views", {}))) or "unknown",
        "splits": _listed(training.get("splits", {})),
        "test rows": f"{len(times):,} from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}",
    }


def _version(value: object) -> str:
    return f"v{value.get('version', '?')}" if isinstance(value, Mapping) else f"v{value}"


def _listed(splits: object) -> str:
    if not isinstance(splits, Mapping):
        return str(splits)
    return "; ".join(f"{name}: {_plain(value)}" for name, value in splits.items()) or "unknown"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)
