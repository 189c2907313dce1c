"""What a verified bundle shows the person who decides: checks, the executed notebook, where it comes from."""

import pandas as pd
import streamlit as st

from dashboards.panels import show_page, show_section, show_table
from dashboards.releases import check_table
from dashboards.reports import PIPELINE, Training
from dashboards.sources import read_record, readable_page
from dashboards.wording import NOTHING, count, figure, moment, plain, short
from flightdeck.gates.verdict import read_verdict
from flightdeck.inference.bundle import Bundle


def show_checks(bundle: Bundle) -> None:
    """Show the verdict: each check with value, threshold and whether it blocks.

    Raises
    ------
    FlightdeckError
        If the verdict cannot be read.
    """
    verdict = read_verdict(bundle.path / "evaluation" / "verdict.json")
    n_passed = sum(check.passed for check in verdict.checks)
    badge = ":green-badge[:material/check: passed]" if verdict.passed else ":red-badge[:material/close: failed]"
    st.markdown(
        f"{badge} {n_passed} of {count(len(verdict.checks), 'check')} met"
        f" :gray[· tier {plain(verdict.tier)} · {moment(verdict.made_at)} · about content] `{short(verdict.subject)}`"
    )
    show_table(check_table(verdict))


def show_notebook(bundle: Bundle) -> None:
    """Show the executed gate notebook.

    Raises
    ------
    NotFoundError, Unreadable
        If there is no page that can be shown.
    """
    page = readable_page(bundle.path / "evaluation" / "evaluation.html", made_by=PIPELINE)
    st.caption("The gate notebook as it was executed for exactly this bundle; sealed with it.")
    show_page(page, "executed evaluation notebook")


def show_provenance(bundle: Bundle) -> None:
    """Show what is needed to make the model again.

    Raises
    ------
    NotFoundError, Unreadable
        If `training.json` cannot be read.
    """
    training = read_record(bundle.path / "training.json", Training, made_by=PIPELINE)
    facts = {
        "Seed": NOTHING if training.seed is None else str(training.seed),
        "Git commit": f"`{training.git_commit or NOTHING}`",
        "Lock file": f"`{training.lock_digest or NOTHING}`",
        "Model": f"`{training.model_digest or NOTHING}`",
        "MLflow run": f"`{training.mlflow_run_id or NOTHING}`",
        "Time split": plain(", ".join(f"{name.replace('_', ' ')} {_ends(at)}" for name, at in training.splits.items())),
        "ONNX difference": figure(training.onnx_max_difference),
        "Feature views": plain(", ".join(sorted(training.views))) or NOTHING,
        "Column functions": count(len(training.nodes), "fingerprint"),
    }
    show_section("How it was made")
    show_table(pd.DataFrame({"Fact": list(facts), "Value": list(facts.values())}))
    read, measured = st.columns([3, 2], gap="large")
    with read:
        show_section("What it read")
        show_table(_streams(training))
    with measured:
        show_section("What training measured")
        show_table(_metrics(training))


def _ends(value: object) -> str:
    """Return a day, or the two ends of a range of days."""
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _streams(training: Training) -> pd.DataFrame:
    rows = [
        (
            plain(name),
            str(read.version),
            NOTHING if read.n_rows is None else f"{read.n_rows:,}",
            f"`{short(read.digest)}`",
        )
        for name, read in training.data_versions.items()
    ]
    return pd.DataFrame(rows, columns=["Stream", "Version", "Events", "Digest"])


def _metrics(training: Training) -> pd.DataFrame:
    rows = [(f"`{name}`", figure(value, 4)) for name, value in sorted(training.metrics.items())]
    return pd.DataFrame(rows, columns=["Metric", "Value"])
