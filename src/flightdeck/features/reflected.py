"""What each value of an answer reflects, where a store is fed in partitions that are at different moments.

An answer is stamped with the lowest watermark of what was read. What was ahead of it is written into its offset, as
`ahead/4:0+1200,3+250000`: of 4 partitions number 0 was ahead by 1200 microseconds, number 3 by 250000; `2.9f2c51e0+300`
says it of one version in partition 2. A key's partition follows from the key, so who audits an answer knows the moment
of each of its values, and the prediction log needs no more than watermark and offset.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flightdeck.features.redis_keys import partitions_of
from flightdeck.features.state_layout import entity_keys
from flightdeck.features.view import FeatureView

Ints = npt.NDArray[np.int64]
_AHEAD = re.compile(r"(?:^| )ahead/(\d+):(\S+)")
_VERSION_LENGTH = 8


def ahead_of(lowest_us: int, reached_us: Sequence[tuple[FeatureView, Mapping[int, int]]], n_partitions: int) -> str:
    """Return what is ahead of a watermark, for an offset; empty where nothing is.

    Parameters
    ----------
    lowest_us
        The watermark of the answer, UTC microseconds.
    reached_us
        Each view with the watermark of its states by partition.
    n_partitions
        Partitions of the store.

    Examples
    --------
    >>> from flightdeck.features.view import Latest
    >>> view = FeatureView("aircraft", ("tailnum",), "departed", Latest(("dep_delay_min",)), owner="me")
    >>> ahead_of(1000, [(view, {0: 1000, 3: 1250})], 4)
    'ahead/4:3+250'
    """
    by_partition: dict[int, dict[str, int]] = {}
    for view, by_home in reached_us:
        for partition, us in by_home.items():
            by_partition.setdefault(partition, {})[view.digest[:_VERSION_LENGTH]] = us - lowest_us
    parts = []
    for partition, ahead_us in sorted(by_partition.items()):
        if len(set(ahead_us.values())) == 1:
            ahead_us = {"": next(iter(ahead_us.values()))}
        parts += [f"{partition}{version and '.'}{version}+{us}" for version, us in ahead_us.items() if us]
    return f"ahead/{n_partitions}:{','.join(parts)}" if parts else ""


def reflected_us(
    offset: str, watermark_us: Ints, views: Sequence[FeatureView], columns: Mapping[str, npt.NDArray[np.object_]]
) -> dict[str, Ints]:
    """Return until when the values of some rows reflect what was known, by name of the view.

    Parameters
    ----------
    offset
        What the rows were stamped with.
    watermark_us
        Their watermark, UTC microseconds, shape `(n_rows,)`.
    views
        Declarations that were served.
    columns
        Entity columns of strings, shape `(n_rows,)`.

    Returns
    -------
    dict of str to array
        int64 of shape `(n_rows,)` for each view, for `audit.recompute`.
    """
    found = _AHEAD.search(offset)
    if found is None:
        return {view.name: watermark_us for view in views}
    ahead_us = {place: int(us) for place, _, us in (part.rpartition("+") for part in found[2].split(","))}
    reflected = {}
    for view in views:
        parts = [[text or "" for text in columns[name].tolist()] for name in view.entity]
        keys = entity_keys(parts) if parts else [""] * len(watermark_us)
        home = partitions_of(view, keys, int(found[1]))
        version = view.digest[:_VERSION_LENGTH]
        of_partition = [ahead_us.get(f"{p}.{version}", ahead_us.get(f"{p}", 0)) for p in range(int(found[1]))]
        reflected[view.name] = watermark_us + np.array(of_partition)[home]
    return reflected
