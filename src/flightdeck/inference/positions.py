"""Where a unit lies in a layer: a keyed hash of its identifier, the same in every process, restart and machine."""

import hashlib

N_BITS = 53
RANGE = 1 << N_BITS
MAX_SALT = 64  # bytes
Layer = hashlib.blake2b


def open_layer(salt: str) -> Layer:
    """Return the keyed hash of the layer that a salt of 1 to 64 bytes of UTF-8 names.

    Raises
    ------
    ValueError
        If the salt is empty or too long.
    """
    key = salt.encode()
    if not 1 <= len(key) <= MAX_SALT:
        raise ValueError(f"a salt has 1 to {MAX_SALT} bytes, got {len(key)}")
    return Layer(key=key, digest_size=8)


def place_in(layer: Layer, unit: bytes) -> int:
    """Return the position of a unit, its UTF-8 bytes, as a whole number of 2**-53."""
    hashed = layer.copy()
    hashed.update(unit)
    return int.from_bytes(hashed.digest(), "big") >> 64 - N_BITS


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
    return place_in(open_layer(salt), unit_id.encode()) / RANGE
