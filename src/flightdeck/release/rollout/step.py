"""A step's file: what is known of it, and the positions in the logs up to which that is true, written together."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flightdeck.core.files import write_json
from flightdeck.release.rollout.tail import Positions


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
    """

    positions: Positions
    shadow_positions: Positions
    known: dict[str, Any] | None
    fixed: float

    @classmethod
    def read(cls, path: Path) -> "Step | None":
        """Return the step that a file holds; None where there is no file."""
        return cls(**json.loads(path.read_bytes())) if path.is_file() else None

    def keep(self, path: Path) -> None:
        """Write the step, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
