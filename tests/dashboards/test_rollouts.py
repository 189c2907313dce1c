"""Rollouts and experiments on the dashboard: a release with a history, a live step of the controller, empty states."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dashboards.rollouts import known_now, metric_table, shares_over_time, step_table, steps_of
from dashboards.sources import Unreadable
from flightdeck.core.files import write_json
from flightdeck.core.layout import Layout
from flightdeck.monitoring.experiment_report import to_json
from flightdeck.monitoring.experiment_results import measure_experiments
from flightdeck.release import rollout_commands
from flightdeck.release.decisions import current_state
from flightdeck.release.judge.judge import Judge
from flightdeck.release.ledger import Ledger
from flightdeck.release.rollout.shadow_report import ShadowReport
from tests.dashboards.conftest import OpenPage, texts
from tests.dashboards.data_root import DAY
from tests.flightdeck.monitoring.experiment_answers import THREE, answers
from tests.release_desk import POLICIES, approve
from tests.rollout_story import Story


@pytest.fixture
def story(where: Layout, ledger: Ledger) -> Story:
    return Story(where, ledger)


@pytest.fixture
def told(story: Story, tmp_path: Path) -> Story:
    story.tell(tmp_path / "drafts")
    return story


def test_the_steps_of_a_version_tell_evidence_freeze_and_end(told: Story) -> None:
    table = step_table(2, steps_of(told.ledger.records(), 2))
    assert [step.replace("*", "") for step in table["Step"]] == [
        "candidate",
        "staging",
        "shadow",
        "canary 10%",
        "canary 10%",
        "canary 50%",
    ]
    assert table["Lasted"].tolist()[-2:] == ["2 h", "goes on"]
    assert "no data for 10 minutes; let go on by Ada" in table["How it ended"][3] and "pass" in table["Evidence"][2]


def test_shares_are_those_of_the_ledger_at_each_moment(told: Story) -> None:
    shares = shares_over_time(told.ledger.records())
    by_moment = shares.pivot(index="at", columns="version", values="share")
    assert np.allclose(by_moment.sum(axis=1), 1)
    assert by_moment["version 2"].tolist() == [0, 0, 0, 0.1, 0.5, 0.5]
    assert by_moment["version 3"].tolist() == [0, 0.1, 0, 0, 0, 0]
    assert shares_over_time([]).empty


def test_a_frozen_canary_says_why_and_what_to_do(told: Story, open_page: OpenPage) -> None:
    told.later()
    rollout_commands.freeze(told.ledger, 2, by=told.controller, reason="stale: no answer for 10 minutes")
    app = open_page("rollout")
    assert not app.exception
    said = texts(app)
    for part in (
        "stale: no answer for 10 minutes",
        "kedro release thaw 2",
        "canary with a share of 0.5",
        "the feed was",
    ):
        assert part in said, part
    assert len(app.expander) == 3


def test_the_controllers_shadow_report_is_shown_while_it_grows(
    story: Story, where: Layout, open_page: OpenPage
) -> None:
    approve(story.ledger, 2, by="Mary", bundles=where.bundles)
    story.promote(2)
    story.promote(2)
    current = current_state(story.ledger).versions[2]
    assert known_now(where.rollout, current) == {}
    assert "has not looked at this step" in texts(open_page("rollout"))
    report = ShadowReport(("origin",))
    at = pa.array([DAY] * 3, pa.timestamp("us", tz="UTC"))
    common = {"request_id": ["a", "b", "c"], "item": [0, 0, 0], "logged_at": at, "segment": ["s"] * 3}
    common |= {"frame_at": [0, 1, 2], "arm": ["champion"] * 3}
    answered = {
        "mode": ["model"] * 3,
        "model_version": ["1"] * 3,
        "probability": [0.2, 0.3, 0.4],
        "model_ms": [2.0] * 3,
    }
    report.add_answers(pa.table({**common, **answered, "origin": ["EWR", "EWR", "JFK"]}), 1, 0)
    scored = {"mode": ["shadow"] * 3, "model_version": ["2"] * 3, "probability": [0.3, 0.4, 0.5], "model_ms": [3.0] * 3}
    report.add_scores(pa.table({**common, **scored}), 2, 0)
    write_step(where, f"2-{current.entered_seq}-shadow", report.state())
    app = open_page("rollout")
    assert not app.exception
    assert all(part in texts(app) for part in (":gray[Items compared]  \n3", "Run of the model, p95"))


def test_the_judge_of_a_live_canary_is_shown(told: Story, where: Layout, open_page: OpenPage) -> None:
    current = current_state(told.ledger).versions[2]
    tier = POLICIES.tier(current.tier)
    rule = tier.step(current.canary_share, current.is_emergency)
    assert rule is not None
    name = f"2-{current.entered_seq}-canary"
    write_step(where, name, Judge(tier.judged(rule), current.canary_share).state())
    table = metric_table(known_now(where.rollout, current))
    assert {"errors", "latency", "predictions"} <= set(table["Metric"])
    assert "inconclusive" in texts(open_page("rollout"))
    (where.rollout / f"{name}.json").write_text('{"known": {"format": 0}}', encoding="utf-8")
    with pytest.raises(Unreadable, match="of the controller cannot be read"):
        known_now(where.rollout, current)
    app = open_page("rollout")
    assert not app.exception and "cannot be read" in texts(app)


def write_step(where: Layout, name: str, known: object) -> None:
    where.rollout.mkdir(parents=True, exist_ok=True)
    write_json(where.rollout / f"{name}.json", {"positions": {}, "shadow_positions": {}, "known": known})


def test_nothing_under_way_says_what_begins_it(where: Layout, open_page: OpenPage) -> None:
    said = texts(open_page("rollout"))
    assert "No version is in shadow or canary" in said and "kedro release promote" in said


def test_an_arm_that_lost_units_is_void_and_the_others_are_not(where: Layout, open_page: OpenPage) -> None:
    frame = answers(4000, 7, arms=("many:a", "many:a", "many:b", "many:c"))
    lost = (frame["arm"] == "many:c") & (np.arange(4000) % 3 == 0)
    results = measure_experiments(pd.DataFrame(frame[~lost]), [THREE])
    write_json(where.monitoring / "experiments.json", to_json(results, DAY + timedelta(days=1)))
    app = open_page("experiments")
    assert not app.exception
    assert "arm c has" in app.error[0].value
    findings = app.table[1].value.groupby("Arm")["Finding"].agg(set)
    assert all("void" in said for said in findings["c"]) and not any("void" in said for said in findings["b"])


def test_no_experiment_says_how_to_begin_one(where: Layout, open_page: OpenPage) -> None:
    write_json(where.monitoring / "experiments.json", to_json([], None))
    assert "kedro release route experiment add" in texts(open_page("experiments"))
