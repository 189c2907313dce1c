"""The canaries of segments: which there are and since which record, which the rules in force do not say themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flightdeck.inference.routing_rules import Canary
from flightdeck.release.record import Record
from flightdeck.release.stages import ReleaseState


@dataclass(frozen=True)
class SegmentCanary:
    """A canary of a segment.

    Parameters
    ----------
    name
        Name of the segment.
    version, share
        Which version decides there, and for which share of the units.
    entered_seq, entered_at
        Record that gave it this share there, and when.
    """

    name: str
    version: int
    share: float
    entered_seq: int
    entered_at: datetime


def segment_canaries(state: ReleaseState, records: Sequence[Record]) -> list[SegmentCanary]:
    """Return the canaries of the segments in force, in the order of the segments."""
    found = []
    for segment in state.rules.segments:
        if segment.canary is not None:
            began = _began(segment.name, segment.canary, records)
            held = segment.canary
            found.append(SegmentCanary(segment.name, held.version, held.share, began.seq, began.recorded_at))
    return found


def has_alert(records: Sequence[Record], canary: SegmentCanary, name: str) -> bool:
    """Return whether an alert `name` about this step of this canary was recorded."""
    about = {"name": name, "segment": canary.name, "entered_seq": canary.entered_seq}
    return any(record.action == "alert" and about.items() <= record.detail.items() for record in records)


def _began(name: str, canary: Canary, records: Sequence[Record]) -> Record:
    """Return the first record of the unbroken run of newest `routed` records that have this canary there."""
    held = {"version": canary.version, "share": canary.share}
    began = records[0]
    for record in reversed([record for record in records if record.action == "routed"]):
        segments = {segment["name"]: segment for segment in record.detail["rules"]["segments"]}
        if segments.get(name, {}).get("canary") != held:
            break
        began = record
    return began
