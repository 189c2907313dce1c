"""Which arm decides for a unit: a keyed hash, the same in every process, restart and machine.

A unit's position in [0, 1) depends on its identifier and the salt only. The canary decides for the units whose position
lies below its share, so raising the share moves nobody out of the canary. The salt is the canary's own digest: each
canary meets other units first, and nobody is the guinea pig of every release.
"""

import hashlib

CHAMPION, CANARY = "champion", "canary"


def position(unit_id: str, salt: str) -> float:
    """Return where a unit lies in [0, 1), a multiple of 2**-53.

    Parameters
    ----------
    unit_id
        Identifier of the unit as it was sent: its UTF-8 bytes count, two spellings of one accent are two units.
    salt
        Name of the layer, at most 64 bytes of UTF-8.

    Raises
    ------
    ValueError
        If the salt is empty or too long.

    Examples
    --------
    >>> position("traveller-1", "a") == position("traveller-1", "a") != position("traveller-1", "b")
    True
    """
    key = salt.encode()
    if not 1 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise ValueError(f"a salt has 1 to {hashlib.blake2b.MAX_KEY_SIZE} bytes, got {len(key)}")
    hashed = hashlib.blake2b(unit_id.encode(), key=key, digest_size=8).digest()
    return (int.from_bytes(hashed, "big") >> 11) / 2**53


def assign(unit_id: str, *, salt: str, canary_share: float) -> str:
    """Return the arm of a unit: `canary` for a share of the units, else `champion`.

    Raises
    ------
    ValueError
        If the share is not in [0, 1] (NaN is not) or the salt has no legal length.
    """
    if not 0.0 <= canary_share <= 1.0:
        raise ValueError(f"a canary share lies in [0, 1], got {canary_share}")
    return CANARY if canary_share > 0.0 and position(unit_id, salt) < canary_share else CHAMPION
