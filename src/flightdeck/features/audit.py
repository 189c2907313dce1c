"""The parity audit: what the offline engine says the served features should have been."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.events.log import EventLog
from flightdeck.features.addable import addable
from flightdeck.features.join import EntityFrame, point_in_time_joins
from flightdeck.features.view import FeatureView, OpenItems


def recompute(
    views: Sequence[FeatureView],
    log: EventLog,
    columns: Mapping[str, npt.NDArray[np.object_]],
    at_us: npt.NDArray[np.int64],
    known_until_us: npt.NDArray[np.int64] | Mapping[str, npt.NDArray[np.int64]],
    versions: Mapping[str, int] | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Recompute features offline from the log, as of the watermark that each answer was stamped with.

    Parameters
    ----------
    views
        Declarations that were served.
    log
        Event log.
    columns
        Entity columns of strings, shape `(n_rows,)`.
    at_us
        Time that the served features describe, shape `(n_rows,)`.
    known_until_us
        Watermark that the served features reflect, shape `(n_rows,)`; by name of the view where each may reflect
        another (`reflected.reflected_us`).
    versions
        Version of each stream that the served features reflect (`events.offset.versions_of`); a stream that is not
        named is read at its latest version.

    Returns
    -------
    dict of str to array
        float64 of shape `(n_rows,)` for each feature; equal to the served values bit by bit on a healthy day.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    if not len(at_us):
        return {name: np.empty(0) for view in views for name in view.columns}
    if isinstance(known_until_us, Mapping):
        found: dict[str, npt.NDArray[np.float64]] = {}
        for alike, us in _by_moment(views, known_until_us):
            found.update(recompute(alike, log, columns, at_us, us, versions))
        return {name: found[name] for view in views for name in view.columns}
    frame = EntityFrame(columns, at_us, known_until_us)
    counted = {source for view in views if isinstance(view.compute, OpenItems) for source in view.sources}
    reach_us = max(view.look_back_s for view in views) * SECOND_US
    oldest_us = int(at_us.min()) - reach_us - 1
    events = {
        stream: log.read(
            stream,
            version=(versions or {}).get(stream),
            created_after_us=None if stream in counted else oldest_us,
            created_until_us=int(known_until_us.max()),
        )
        for stream in {source for view in views for source in view.sources}
    }
    return _join(views, events, frame)


def _join(
    views: Sequence[FeatureView], events: Mapping[str, pa.Table], frame: EntityFrame
) -> dict[str, npt.NDArray[np.float64]]:
    """Join views together, but for those that cannot add up some value: each of these sees other events."""
    alike, joined = [], {}
    for view in views:
        found = addable(view, events[view.source])
        if found.left_out:
            joined.update(point_in_time_joins([view], {**events, view.source: found.events}, frame))
        else:
            alike.append(view)
    joined.update(point_in_time_joins(alike, events, frame))
    return {name: joined[name] for view in views for name in view.columns}


def _by_moment(
    views: Sequence[FeatureView], known_until_us: Mapping[str, npt.NDArray[np.int64]]
) -> list[tuple[list[FeatureView], npt.NDArray[np.int64]]]:
    """Return the views in groups whose rows reflect the same."""
    groups: dict[bytes, tuple[list[FeatureView], npt.NDArray[np.int64]]] = {}
    for view in views:
        us = known_until_us[view.name]
        groups.setdefault(us.tobytes(), ([], us))[0].append(view)
    return list(groups.values())
