"""How the online store lies in Redis: the partition of an entity key, and what its keys are called (ADR 0012).

Every key of a partition carries the hash tag `{p<number>}`, so a partition lies on one node of a cluster and changes in
one transaction there.
"""

from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np
import numpy.typing as npt

from flightdeck.features.view import FeatureView

META = b"fd:meta"
DECLARED = b"fd:declared"
PAUSE = b"fd:pause"
CONSUMERS = b"fd:consumers"
LAYOUT = 2
MAX_PARTITIONS = 4096


def version_of(view: FeatureView) -> bytes:
    """Return the part of a key that names a version of a view."""
    return view.digest[:32].encode()


@lru_cache(maxsize=1 << 16)
def _state_prefix(partition: int, digest: str) -> bytes:
    return b"fd:{p%d}:s:%s:" % (partition, digest[:32].encode())


def state_prefix(partition: int, view: FeatureView) -> bytes:
    """Return what the keys of a view's states in a partition begin with; the entity key follows."""
    return _state_prefix(partition, view.digest)


@lru_cache(maxsize=1 << 16)
def _mark_key(partition: int, digest: str) -> bytes:
    return b"fd:{p%d}:m:%s" % (partition, digest[:32].encode())


def mark_key(partition: int, view: FeatureView) -> bytes:
    """Return the key of what a view's states in a partition reflect."""
    return _mark_key(partition, view.digest)


def filled_key(partition: int, digest: str) -> bytes:
    """Return the key of which events the states of a version in a partition contain from its filling."""
    return b"fd:{p%d}:b:%s" % (partition, digest[:32].encode())


def epoch_key(partition: int) -> bytes:
    """Return the key of a partition's fencing token: it grows with every change of the writer."""
    return b"fd:{p%d}:epoch" % partition


def owner_key(partition: int) -> bytes:
    """Return the key of a partition's lease: the name of the consumer that feeds it, with an expiry."""
    return b"fd:{p%d}:owner" % partition


def stream_key(partition: int) -> bytes:
    """Return the key of the Redis stream that feeds a partition."""
    return b"fd:{p%d}:x" % partition


def counters_key(partition: int) -> bytes:
    """Return the key of the counters of a partition: events published and applied, newest and applied watermark."""
    return b"fd:{p%d}:c" % partition


def seen_key(partition: int, hour: int) -> bytes:
    """Return the key of the set of event ids that a partition applied and that were published in one hour."""
    return b"fd:{p%d}:e:%d" % (partition, hour)


def partitions_of(view: FeatureView, keys: Sequence[str], n_partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each entity key, shape `(n_keys,)`.

    The checksum also covers the view: the states of an entity that is in demand lie in several partitions.

    Examples
    --------
    >>> from flightdeck.features.view import Latest
    >>> view = FeatureView("aircraft", ("tailnum",), "departed", Latest(("dep_delay_min",)), owner="me")
    >>> partitions_of(view, ["N1", "N2", "N3"], 1).tolist()
    [0, 0, 0]
    """
    if n_partitions == 1:
        return np.zeros(len(keys), dtype=np.int64)
    seed = crc32(version_of(view))
    return np.fromiter((crc32(key.encode(), seed) % n_partitions for key in keys), dtype=np.int64, count=len(keys))
