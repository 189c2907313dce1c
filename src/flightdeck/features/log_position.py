"""Where views stand in the event log: what their marks say, which of them are behind, and whether it is this log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flightdeck.events.log import EventLog
from flightdeck.events.offset import digests_of, versions_of
from flightdeck.features.stores import Mark, Moment
from flightdeck.features.streaming import MustFill
from flightdeck.features.view import FeatureView

BACKFILL = "fill the store from this log: kedro features backfill"
Marks = dict[str, tuple[FeatureView, Mark]]


@dataclass(frozen=True)
class Position:
    """Some views that stand at one place.

    Parameters
    ----------
    marks
        The views by digest, with their marks.
    versions
        Versions of their streams that they reflect.
    watermark_us
        Time of knowledge until which they do, UTC microseconds.
    """

    marks: Marks
    versions: dict[str, int]
    watermark_us: int


def marks_of(moment: Moment, views: Sequence[FeatureView] | None) -> Marks:
    """Return the marks of some views, by digest; None: of every version that the store declares."""
    declared = {view.digest: view for view in views} if views is not None else moment.declared()
    return {digest: (view, moment.mark(view)) for digest, view in declared.items()}


def own_versions(view: FeatureView, mark: Mark) -> dict[str, int]:
    """Return the versions of a view's streams that its mark names.

    Raises
    ------
    MustFill
        If it does not name one for each.
    """
    versions = versions_of(mark.offset)
    if any(stream not in versions for stream in view.sources):
        raise MustFill(
            f"following the event log: the store does not say which part of {', '.join(view.sources)} view {view.name} "
            f"reflects (it says {mark.offset!r})",
            next_step=BACKFILL,
        )
    return {stream: versions[stream] for stream in view.sources}


def furthest_behind(marks: Mapping[str, tuple[FeatureView, Mark]]) -> tuple[Position, Position | None]:
    """Return views that stand behind others and where those stand, or all views where they stand together."""
    furthest: dict[str, int] = {}
    for view, mark in marks.values():
        for stream, version in own_versions(view, mark).items():
            furthest[stream] = max(furthest.get(stream, version), version)
    latest_us = max(mark.watermark_us for _, mark in marks.values())
    for view, mark in marks.values():
        own = own_versions(view, mark)
        target = {stream: furthest[stream] for stream in own}
        if own != target or mark.watermark_us < latest_us:
            group = {
                digest: (other, its)
                for digest, (other, its) in marks.items()
                if its.watermark_us == mark.watermark_us and own_versions(other, its) == own
            }
            return Position(group, own, mark.watermark_us), Position({}, target, latest_us)
    return Position(dict(marks), furthest, latest_us), None


def require_same_log(log: EventLog, marks: Mapping[str, tuple[FeatureView, Mark]]) -> None:
    """Refuse to go on from a log that has another content at the versions that the views reflect.

    Raises
    ------
    MustFill
        If a version's digest is not the one that a mark names; marks without digests are believed.
    NotFoundError
        If the log does not hold the version (any more).
    """
    named: dict[tuple[str, int, str], str] = {}
    for view, mark in marks.values():
        versions, digests = own_versions(view, mark), digests_of(mark.offset)
        named.update(
            {(stream, versions[stream], digests[stream]): view.name for stream in versions if stream in digests}
        )
    for (stream, version, digest), name in named.items():
        found = log.commit(stream, version).digest
        if not found.startswith(digest):
            raise MustFill(
                f"following the event log: view {name} reflects {stream}@{version} of a log with other events "
                f"(digest {digest}; {log.root} has {found[: len(digest)]})",
                next_step=BACKFILL,
            )
