"""The part of a log that something reflects, as text: `arrived@2 departed@3`, stream by stream at its version.

A version may carry the beginning of its digest (`departed@3#9f2c51e0ab47`): two logs whose versions have the same
digest hold the same events. Offsets that were written before have none.
"""

from collections.abc import Mapping

DIGEST_LENGTH = 12  # hexadecimal digits


def offset_of(versions: Mapping[str, int], digests: Mapping[str, str] | None = None) -> str:
    """Return the offset of some streams' versions, with the digests that are given.

    Examples
    --------
    >>> offset_of({"departed": 3, "arrived": 2})
    'arrived@2 departed@3'
    >>> offset_of({"departed": 3}, {"departed": "9f2c51e0ab47d1"})
    'departed@3#9f2c51e0ab47'
    """
    marks = {stream: f"#{digest[:DIGEST_LENGTH]}" for stream, digest in (digests or {}).items()}
    return " ".join(f"{stream}@{version}{marks.get(stream, '')}" for stream, version in sorted(versions.items()))


def versions_of(offset: str) -> dict[str, int]:
    """Return the versions that an offset names; empty where it names none (a Redis stream, or not known).

    Examples
    --------
    >>> versions_of("arrived@2 departed@3#9f2c51e0ab47")
    {'arrived': 2, 'departed': 3}
    """
    return {stream: version for stream, (version, _) in _parts(offset).items()}


def digests_of(offset: str) -> dict[str, str]:
    """Return the beginnings of digests that an offset names, for those streams that have one.

    Examples
    --------
    >>> digests_of("arrived@2 departed@3#9f2c51e0ab47")
    {'departed': '9f2c51e0ab47'}
    """
    return {stream: digest for stream, (_, digest) in _parts(offset).items() if digest}


def _parts(offset: str) -> dict[str, tuple[int, str]]:
    found = {}
    for part in offset.split():
        stream, _, version = part.rpartition("@")
        number, _, digest = version.partition("#")
        if stream and number.isdigit():
            found[stream] = int(number), digest
    return found
