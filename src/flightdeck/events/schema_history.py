"""How the columns of sources and streams changed: when it was first seen, where, and whether it broke the contract.

An additive change (a further column) is accepted, the column left out, and recorded. A breaking one (a promised column
missing or of another type in the whole delivery) is quarantined whole, recorded, and is an alert until somebody deals
with it (docs/runbooks/alert-schema-change.md). Both files hold one JSON object a line.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from flightdeck.events.dead_letters import append_once, read_lines

logger = logging.getLogger(__name__)

ALERT = "schema-change"
RUNBOOK = f"docs/runbooks/alert-{ALERT}.md"


@dataclass(frozen=True)
class SchemaChange:
    """One difference between what was promised and what came.

    Parameters
    ----------
    where
        Source or stream.
    kind
        `additive` or `breaking`.
    what
        The change: `new column gate (string)`.
    offset
        Where it was seen first.
    """

    where: str
    kind: Literal["additive", "breaking"]
    what: str
    offset: str = ""


class SchemaHistory:
    """Changes of schemas and the alerts that they gave, below one folder.

    Parameters
    ----------
    folder
        Where `schema_history.jsonl` and `schema_alerts.jsonl` lie; made at the first change.
    """

    def __init__(self, folder: Path) -> None:
        self._changes = folder / "schema_history.jsonl"
        self._alerts = folder / "schema_alerts.jsonl"

    def record(self, changes: Sequence[SchemaChange], at: datetime) -> list[SchemaChange]:
        """Record the changes that are not recorded yet, with an alert a day for each breaking one; return the new ones.

        Parameters
        ----------
        at
            When they were seen.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        if not changes:
            return []
        by_key = {f"{change.where}/{change.kind}/{change.what}": change for change in changes}
        lines = [{"key": key, "first_seen": at.isoformat(), **asdict(change)} for key, change in by_key.items()]
        fresh = append_once(self._changes, lines)
        day = at.date().isoformat()
        alerts = [
            {
                "name": ALERT,
                "about": f"{change.where}: {change.what}",
                "day": day,
                "value": None,
                "threshold": None,
                "runbook": RUNBOOK,
                "key": f"{ALERT}/{change.where}: {change.what}/{day}",
            }
            for change in by_key.values()
            if change.kind == "breaking"
        ]
        for alert in append_once(self._alerts, alerts) if alerts else []:
            logger.error("alert %s: %s; see %s", ALERT, alert["about"], RUNBOOK)
        return [by_key[line["key"]] for line in fresh]

    def changes(self) -> list[dict[str, Any]]:
        """Return the recorded changes, first seen first."""
        return read_lines(self._changes)

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts in the form of the monitoring's (`flightdeck.monitoring.alerts.Alert.as_json`)."""
        return read_lines(self._alerts)
