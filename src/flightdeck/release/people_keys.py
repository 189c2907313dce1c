"""Keys by which people show who they are at the command line.

A key is `fp_<id>_<secret>`: a public id of eight characters to find it by, and 32 random bytes. It is shown once, when
it is made; the file below the data root has its SHA-256 only (`inference.api_keys` says why no slow hash). A key names
its person and nothing else: what the person may do is read from the register at each decision.

`kedro release people` writes the file; whoever can write it, or the register, can be anybody.
"""

import secrets
import string
from datetime import datetime, timedelta
from hmac import compare_digest
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from flightdeck.core.errors import ConfigError, NotFoundError, nearest
from flightdeck.core.files import write_atomically
from flightdeck.inference.api_keys import ID_CHARACTERS, MAX_DAYS, OWNER_ONLY, SECRET_BYTES, changing, digest_key
from flightdeck.release.people import People, PermissionDenied, Person, person_key

DEFAULT_DAYS = 90.0
_HEAD = "fp_"
_ID_ALPHABET = string.ascii_lowercase + string.digits

Instant = Annotated[datetime, Meta(tz=True)]


class PersonKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key, without its secret.

    Parameters
    ----------
    id
        The public part, in the key itself; it stands in the records that the key proves.
    name
        Whose it is, as in the register of people.
    digest
        SHA-256 of the whole key, 64 hexadecimal characters.
    created_at, expires_at
        When it was made, and from when on it is invalid, UTC.
    revoked_at
        From when on it is taken back; None for never.
    """

    id: Annotated[str, Meta(pattern=rf"^[a-z0-9]{{{ID_CHARACTERS}}}\Z")]
    name: str
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created_at: Instant
    expires_at: Instant
    revoked_at: Instant | None = None

    def state(self, now: datetime) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        return "expired" if self.expires_at <= now else "valid"


class KeyRefused(PermissionDenied):
    """A key that proves nothing.

    Parameters
    ----------
    message, next_step
        As in every error.
    name
        Whose key it was; empty where it is nobody's.
    """

    def __init__(self, message: str, *, next_step: str, name: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.name = name


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[PersonKey]


def read_people_keys(path: Path) -> list[PersonKey]:
    """Return all keys of a file, in the order in which they were made; none if there is no file.

    Raises
    ------
    ConfigError
        If the file cannot be read or understood, or others than its owner may read or write it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"reading the keys of people in {path}: others than its owner may read or write it",
                next_step=f"find out who did, then: chmod 600 {path}",
            )
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:  # a DecodeError is a ValueError
        raise ConfigError(
            f"reading the keys of people in {path}: {error}",
            next_step="restore the file from a backup, or remove it and make new keys: kedro release people key NAME",
        ) from error


def make_people_key(
    path: Path, name: str, *, people: People, now: datetime, days: float = DEFAULT_DAYS
) -> tuple[str, PersonKey]:
    """Make a key for a person of the register; return it, this once, and what is kept of it.

    Raises
    ------
    ConfigError
        If the person is not in the register or revoked, or `days` is no lifetime of a key.
    """
    known = {person_key(listed): listed for listed in people.people}
    found = known.get(person_key(name))
    problems = []
    if found is None:
        problems.append(f"{name[:64]!r} is not in the register of people{nearest(name[:64], people.people)}")
    elif people.people[found].revoked:
        problems.append(f"{found} is revoked")
    if not 0 < days <= MAX_DAYS:
        problems.append(f"days {days:g}: above 0 and at most {MAX_DAYS:,}")
    if found is None or problems:
        raise ConfigError(
            f"making a key for a person: {'; '.join(problems)}", next_step="enter the person in conf/base/people.yml"
        )
    with changing(path):
        keys = read_people_keys(path)
        taken = {key.id for key in keys}
        key_id = next(made for made in iter(_random_id, "") if made not in taken)
        key = f"{_HEAD}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        kept = PersonKey(key_id, found, digest_key(key.encode()).hex(), now, now + timedelta(days=days))
        _write(path, [*keys, kept])
    return key, kept


def revoke_people_keys(path: Path, which: str, now: datetime) -> list[PersonKey]:
    """Take back the valid keys of a person, or the one that has the id `which`; return them.

    Raises
    ------
    NotFoundError
        If no valid key is that person's or has that id.
    ConfigError
        If the file cannot be understood.
    """
    with changing(path):
        keys = read_people_keys(path)
        valid = [key for key in keys if key.state(now) == "valid"]
        gone = [key for key in valid if key.id == which or person_key(key.name) == person_key(which)]
        if not gone:
            raise NotFoundError(
                f"revoking a person's key: no valid key of {which[:64]!r}"
                f"{nearest(which[:64], {key.name for key in valid})}",
                next_step="kedro release people list names them",
            )
        _write(path, [msgspec.structs.replace(key, revoked_at=now) if key in gone else key for key in keys])
    return gone


def identify_by_key(path: Path, key: str, *, people: People, now: datetime) -> Person:
    """Return the person whose key this is.

    Parameters
    ----------
    path
        File of the keys.
    key
        As it was shown when it was made.
    people
        The register.
    now
        When it is shown.

    Raises
    ------
    KeyRefused
        If the key is unknown, expired or revoked, or its person is.
    ConfigError
        If the file of keys cannot be understood.
    """
    digest = digest_key(key.encode("utf-8", "surrogatepass")).hex()
    found = next((kept for kept in read_people_keys(path) if compare_digest(kept.digest, digest)), None)
    if found is None:
        raise KeyRefused(
            "the key in FLIGHTDECK_KEY is nobody's",
            next_step="have one made: kedro release people key NAME; or unset FLIGHTDECK_KEY",
        )
    if (state := found.state(now)) != "valid":
        raise KeyRefused(
            f"the key {found.id} of {found.name} is {state}",
            next_step=f"have another one made: kedro release people key '{found.name}'",
            name=found.name,
        )
    if person_key(found.name) not in {person_key(name) for name in people.people}:
        raise KeyRefused(
            f"the key {found.id} is that of {found.name}, who is not in the register of people any more",
            next_step="enter the person in conf/base/people.yml, or revoke the key: kedro release people revoke-key",
            name=found.name,
        )
    return people.identify(found.name, proof=f"key:{found.id}")


def _random_id() -> str:
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_CHARACTERS))


def _write(path: Path, keys: list[PersonKey]) -> None:
    content = msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2)
    write_atomically(path, content + b"\n", mode=OWNER_ONLY)
