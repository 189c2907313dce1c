"""Steps of a rollout: evidence, freezes and the moves of other versions are in them."""

from typing import Any

import pytest

from flightdeck.lineage.rollout_steps import how_it_ended, moves, rollout_steps
from tests.flightdeck.lineage.test_queries import record

DIGEST = "b" * 64
RECORDS = [
    record(1, "registered", actor="pipeline", digest=DIGEST),
    record(2, "promoted", to="shadow"),
    record(3, "judged", verdict="pass", n_requests=5000, stage="shadow"),
    record(4, "promoted", to="canary", share=0.1),
    record(5, "frozen", actor="controller", reason="no data"),
    record(6, "thawed", reason="feed is back"),
    record(7, "rehearsed", to=None, duration_s=0.4),
    record(8, "promoted", to="prod", is_override=True),
    record(9, "routed", "-", what="segment newark", versions=[1, 2]),
    record(10, "promoted", "2", to="prod", replaces=1),
    record(11, "rolled_back", "2", to=1, stage="prod"),
    record(12, "rolled_back", "3", to=1, stage="canary"),
    record(13, "promoted", "4", to="prod", replaces=1),
]


def test_steps_tell_stage_share_evidence_and_end() -> None:
    steps = rollout_steps(1, RECORDS)
    assert [(step.stage, step.share, how_it_ended(1, step)) for step in steps] == [
        ("candidate", None, "moved on to shadow (by Ada)"),
        ("shadow", None, "moved on to canary 10% (by Ada)"),
        ("canary", 0.1, "let go on by Ada: feed is back"),
        ("canary", 0.1, "moved on to prod (override, by Ada)"),
        ("prod", None, "replaced by version 2"),
        ("prod", None, "replaced by version 4"),
    ]
    assert [len(step.judged) for step in steps] == [0, 1, 0, 0, 0, 0]
    assert [step.frozen["seq"] if step.frozen else None for step in steps] == [None, None, 5, None, None, None]
    assert [step.ended["seq"] if step.ended else None for step in steps] == [2, 4, 6, 8, 10, 13]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (record(5, "superseded", by=2), "gave way to version 2 by Ada"),
        (record(5, "promoted", "2", to="canary", supersedes=1), "gave way to version 2"),
        (record(5, "rolled_back", to=None, reason="slow"), "taken out by Ada: slow"),
        (record(5, "rejected", reason="weak"), "rejected by Ada: weak"),
    ],
)
def test_a_version_that_leaves_begins_no_other_step(last: dict[str, Any], said: str) -> None:
    steps = rollout_steps(1, [*RECORDS[:4], last])
    assert len(steps) == 3 and how_it_ended(1, steps[-1]) == said


def test_a_canary_that_is_taken_out_does_not_move_its_champion() -> None:
    assert not moves(RECORDS[11], 1) and moves(RECORDS[10], 1)
