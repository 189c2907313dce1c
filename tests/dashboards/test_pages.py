import json
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from flightdeck.core.clock import SystemClock, to_us
from flightdeck.core.layout import Layout
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from tests import release_desk as commands
from tests.dashboards.conftest import OpenPage, markup, texts
from tests.dashboards.data_root import ANSWERED_UNTIL, CANDIDATE, CHAMPION, enter
from tests.predictions import log_batch

PAGES = ("overview", "releases", "rollout", "experiments", "drift", "data", "runbooks")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_an_empty_house_says_what_to_run(page: str, open_page: OpenPage, empty: Layout) -> None:
    app = open_page(page)
    assert not app.exception
    assert not app.error
    if page != "runbooks":
        assert "Next step" in texts(app)
        assert "kedro " in texts(app)
    assert not empty.root.exists(), "looking makes nothing"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_finished_day_has_no_error(page: str, open_page: OpenPage, where: Layout) -> None:
    app = open_page(page)
    assert not app.exception
    assert not app.error


def test_overview_says_what_is_live_and_how_it_does(open_page: OpenPage, where: Layout) -> None:
    said = texts(open_page())
    for expected in ("Version 1", "Ada Lovelace", "Grace Hopper", "Every unit gets the champion", "version 2"):
        assert expected in said
    assert "Requests answered 100%" in said
    assert "Latency, p95 31.5 ms" in said
    assert "Training-serving skew 6 mismatches" in said
    assert "Breached: freshness, training-serving skew · 2 alerts" in said
    assert "1,200 answers" in said
    assert "2 h 30 min" in said


def test_overview_shows_a_canary_with_its_share(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    promote_to_canary(ledger, where)
    said = texts(open_page())
    assert "canary 10%" in said
    assert "Bob" in said


def promote_to_canary(ledger: Ledger, where: Layout) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles, reason="better")
    commands.bring(ledger, CANDIDATE, "canary", by="Bob", bundles=where.bundles)


def test_overview_grows_with_the_prediction_log(open_page: OpenPage, where: Layout) -> None:
    app = open_page()
    assert "1,200 answers" in texts(app)
    writer = PredictionLogWriter(where.prediction_log, SystemClock())
    writer.append(log_batch([{"request_us": to_us(ANSWERED_UNTIL)}]))
    assert "1,201 answers" in texts(app.run())


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"\x00not what it should be\xff")


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("experiments.json", "experiments"),
        ("quality.parquet", "overview"),
        ("summary.json", "overview"),
        ("serving.parquet", "overview"),
        ("drift.parquet", "drift"),
        ("skew.parquet", "drift"),
        ("freshness.parquet", "data"),
    ],
)
def test_a_damaged_report_is_named_in_place(name: str, page: str, open_page: OpenPage, where: Layout) -> None:
    damage(where.monitoring / name)
    app = open_page(page)
    assert not app.exception
    assert [error.value for error in app.error if name in error.value]


@pytest.mark.parametrize("page", ["overview", "releases", "rollout"])
def test_a_damaged_ledger_is_an_error_and_no_traceback(page: str, open_page: OpenPage, where: Layout) -> None:
    damage(where.ledger)
    app = open_page(page)
    assert not app.exception
    assert "backup" in texts(app)


def test_a_damaged_ingestion_report_and_replay(open_page: OpenPage, where: Layout) -> None:
    damage(where.ingestion_report)
    damage(where.replay_report)
    assert "ingestion.json cannot be read" in texts(open_page("data"))
    assert "replay.json cannot be read" in texts(open_page())


def test_releases_opens_the_version_that_waits(open_page: OpenPage, where: Layout) -> None:
    said = texts(open_page("releases"))
    assert "0 of 1 needed" in said
    assert "files compared" in said
    assert "4 of 5 checks met" in said
    assert "worst_month_auc" in said
    assert "not met" in said
    assert "a name is taken at its word" in said
    assert "Routes in force" in said


def decide(app: AppTest, label: str, *, by: str, reason: str) -> AppTest:
    app.text_input(key="decided_by").set_value(by)
    app.text_area[0].set_value(reason)
    return next(button for button in app.button if button.label == label).click().run()


def test_a_named_person_approves_with_a_reason(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    app = decide(open_page("releases"), "Approve", by="Mary  Jackson", reason="calibrated in every month")
    assert not app.exception
    assert "Version 2 approved by Mary Jackson" in app.success[0].value
    record = ledger.records()[-1]
    assert (record.action, record.actor, record.subject) == ("approved", "Mary Jackson", "2")
    assert record.detail["reason"] == "calibrated in every month"
    assert record.detail["digest"] == current_state(ledger).versions[CANDIDATE].digest
    assert "1 of 1 needed" in texts(app)


def test_a_named_person_rejects_with_a_reason(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    app = decide(open_page("releases"), "Reject", by="Ada", reason="December is weak")
    assert "rejected by Ada" in app.success[0].value
    assert current_state(ledger).versions[CANDIDATE].stage == "rejected"
    assert "nothing is left to decide" in texts(app)


@pytest.mark.parametrize(("by", "reason", "missing"), [("", "why", "your name"), ("Ada", " ", "a reason")])
def test_a_decision_needs_name_and_reason(
    by: str, reason: str, missing: str, open_page: OpenPage, where: Layout, ledger: Ledger
) -> None:
    before = ledger.head()
    app = decide(open_page("releases"), "Approve", by=by, reason=reason)
    assert missing in texts(app)
    assert ledger.head() == before


def test_a_refusal_is_shown_in_the_words_of_the_command(
    open_page: OpenPage, where: Layout, ledger: Ledger, tmp_path: Path
) -> None:
    enter(where, ledger, 3, tmp_path / "drafts", passed=False)
    app = open_page("releases")
    assert "failed" in texts(app)
    app = decide(app, "Approve", by="Ada", reason="I like it")
    assert "failed the gate" in texts(app)
    assert not app.exception


def test_two_people_at_once_each_get_an_answer(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    app = open_page("releases")
    commands.reject(ledger, CANDIDATE, by="Bob", reason="no")
    app = decide(app, "Approve", by="Ada", reason="yes")
    assert not app.exception
    assert current_state(ledger).versions[CANDIDATE].stage == "rejected"


def test_evidence_of_an_altered_bundle_is_not_shown(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    version = current_state(ledger).versions[CANDIDATE]
    damage(where.bundles / version.digest[:16] / "rules.json")
    app = open_page("releases")
    assert "does not verify" in texts(app)
    assert "altered" in texts(app)
    assert "checks met" not in texts(app)
    shutil.rmtree(where.bundles)
    app = app.run()
    assert not app.exception
    assert "does not verify" in texts(app)


def choose_tab(app: AppTest, key: str, label: str) -> AppTest:
    app.session_state[key] = label
    return app.run()


@pytest.mark.parametrize(
    ("tab", "expected"),
    [("Provenance", "What it read"), ("History", "calibrated in every month"), ("Executed notebook", "sealed with it")],
)
def test_each_tab_of_evidence(tab: str, expected: str, open_page: OpenPage, where: Layout) -> None:
    app = open_page("releases")
    app.selectbox(key="version").set_value(CHAMPION)
    app = choose_tab(app, "evidence", tab)
    assert not app.exception
    assert expected in texts(app)


def test_drift_compares_each_column_with_its_threshold(open_page: OpenPage, where: Layout) -> None:
    said = texts(open_page("drift"))
    assert "up to 5 may on a healthy day" in said
    assert "within its threshold of 0.4" in said
    assert "12 comparable predictions, 200 are needed" in said
    assert "6 mismatches" in said


def test_skew_shows_only_mismatched_features_on_demand(open_page: OpenPage, where: Layout) -> None:
    app = open_page("drift")
    app = app.button_group[0].set_value("Mismatched only").run()
    assert not app.exception
    assert app.dataframe[-1].value["feature"].tolist() == ["feature_a", "feature_b"]


def test_an_unreadable_drift_page_is_named(open_page: OpenPage, where: Layout) -> None:
    (where.monitoring / "drift.html").write_bytes(b"\xff\xfe")
    app = choose_tab(open_page("drift"), "drift_view", "Evidently report")
    assert "drift.html cannot be read" in texts(app)


def test_data_adds_up_and_opens_the_quarantine(open_page: OpenPage, where: Layout) -> None:
    app = open_page("data")
    said = texts(app)
    for expected in ("336,776", "adds up", "hhmm 2575 is no time", "2 h 30 min", "never heard", "a1a1a1a1a1a1"):
        assert expected in said
    app = app.selectbox[1].set_value("hhmm 2575 is no time").run()
    assert not app.exception
    assert len(app.dataframe[0].value) == 3


def test_data_says_where_rows_are_lost(open_page: OpenPage, where: Layout) -> None:
    report = json.loads(where.ingestion_report.read_text())
    report["sources"]["flights"]["n_accepted"] -= 1
    where.ingestion_report.write_text(json.dumps(report))
    assert "does not add up" in texts(open_page("data"))


def test_what_people_and_files_say_is_never_markup(open_page: OpenPage, where: Layout) -> None:
    app = decide(open_page("releases"), "Approve", by=":red[Ada] **root**", reason="# [x](javascript:alert(1)) $y$")
    assert not app.exception
    app = choose_tab(app, "evidence", "History")
    said = markup(app)
    assert r"\:red\[Ada\] \*\*root\*\*" in said
    assert "[x](javascript" not in said


def test_runbooks_opens_the_one_that_an_alert_names(open_page: OpenPage, empty: Layout) -> None:
    app = open_page("runbooks")
    app.query_params["name"] = "serving"
    app = app.run()
    assert app.selectbox[0].value == "serving"
    app.query_params["name"] = "../../etc/passwd"
    app = app.run()
    assert not app.exception
    assert app.warning
