"""A step's file: what is known of it, and the positions in the logs up to which that is true, written together."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flightdeck.core.files import write_json
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.verdict import Outcome
from flightdeck.release.rollout.shadow_report import ShadowReport
from flightdeck.release.rollout.tail import Positions

KEPT = ("positions", "shadow_positions", "known", "fixed", "begun")


@dataclass
class Step:
    """What is known of one step of one version.

    Parameters
    ----------
    positions, shadow_positions
        Up to where the prediction log and the shadow log were read.
    known
        State of the judge or of the report; None before the first look.
    fixed
        Part of a run that does not depend on its items, in units of an item (`run_cost`).
    begun
        Names of the workers that are known to have the step's table.
    judge, report, kept_outcome, kept_at
        What is known as it is used, what it came to at the last look, and when it was written last; not in the file.
    """

    positions: Positions
    shadow_positions: Positions
    known: dict[str, Any] | None
    fixed: float
    begun: list[str] = field(default_factory=list)
    judge: Judge | None = None
    report: ShadowReport | None = None
    kept_outcome: Outcome | None = None
    kept_at: datetime | None = None

    @classmethod
    def read(cls, path: Path) -> "Step | None":
        """Return the step that a file holds; None where there is no file."""
        return cls(**json.loads(path.read_bytes())) if path.is_file() else None

    def keep(self, path: Path) -> None:
        """Write the step, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {name: getattr(self, name) for name in KEPT})
