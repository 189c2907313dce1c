"""The part of a log that something reflects, as text: `arrived@2 departed@3`, stream by stream at its version."""

from collections.abc import Mapping


def offset_of(versions: Mapping[str, int]) -> str:
    """Return the offset of some streams' versions.

    Examples
    --------
    >>> offset_of({"departed": 3, "arrived": 2})
    'arrived@2 departed@3'
    """
    return " ".join(f"{stream}@{version}" for stream, version in sorted(versions.items()))


def versions_of(offset: str) -> dict[str, int]:
    """Return the versions that an offset names; empty where it names none (a Redis stream, or not known).

    Examples
    --------
    >>> versions_of("arrived@2 departed@3")
    {'arrived': 2, 'departed': 3}
    """
    parts = [part.rpartition("@") for part in offset.split()]
    return {stream: int(version) for stream, separator, version in parts if separator and version.isdigit()}
