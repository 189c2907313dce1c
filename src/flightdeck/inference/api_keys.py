"""API keys of the service: who may ask for what, until when, how often.

A key is `fd_<id>_<secret>`: a public id of eight characters to find it by, and 32 random bytes. It is shown once, when
it is made; the file below the data root has its SHA-256 only. A slow hash, as for passwords, would add nothing: nobody
guesses 256 random bits, and every request pays for it.

`kedro serve keys` writes the file, the workers read it (`serving.access`).
"""

import base64
import fcntl
import hashlib
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from flightdeck.core.errors import ConfigError, NotFoundError, nearest, some
from flightdeck.core.files import write_atomically

ID_CHARACTERS, SECRET_BYTES = 8, 32
OWNER_ONLY = 0o600
MAX_RATE_PER_S, MAX_BURST, MAX_DAYS = 1e6, 1_000_000, 3650
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEAD = "fd_"
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY_CHARACTERS = len(_HEAD) + ID_CHARACTERS + 1 + len(base64.urlsafe_b64encode(bytes(SECRET_BYTES)).rstrip(b"="))
ID_PLACE = slice(len(_HEAD), len(_HEAD) + ID_CHARACTERS)

Instant = Annotated[datetime, Meta(tz=True)]


class Role(StrEnum):
    """What a key is for; neither role includes the other."""

    PREDICT = "predict"
    OPERATE = "operate"


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key, without its secret.

    Parameters
    ----------
    id
        The public part, in the key itself.
    name
        Who has it; of the keys that are valid no two have the same.
    role
        What it is for.
    digest
        SHA-256 of the whole key, 64 hexadecimal characters.
    created_at
        When it was made, UTC.
    surfaces
        Surfaces that it may ask for; None for all.
    rate_per_s
        Requests a second in the long run; None for as many as it likes.
    burst
        Requests at once after a pause.
    expires_at, revoked_at
        From when on it is invalid; None for never.
    """

    id: Annotated[str, Meta(pattern=rf"^[a-z0-9]{{{ID_CHARACTERS}}}\Z")]
    name: str
    role: Role
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created_at: Instant
    surfaces: tuple[str, ...] | None = None
    rate_per_s: Annotated[float, Meta(gt=0, le=MAX_RATE_PER_S)] | None = None
    burst: Annotated[int, Meta(ge=1, le=MAX_BURST)] = 1
    expires_at: Instant | None = None
    revoked_at: Instant | None = None

    def state(self, now: datetime) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[ApiKey]


def digest_key(key: bytes) -> bytes:
    """Return the SHA-256 of a key, 32 bytes."""
    return hashlib.sha256(key).digest()


def read_keys(path: Path) -> list[ApiKey]:
    """Return all keys of a file, in the order in which they were made; none if there is no file.

    Raises
    ------
    ConfigError
        If the file cannot be read or understood.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:  # a DecodeError is a ValueError
        raise ConfigError(
            f"reading the API keys in {path}: {error}",
            next_step="restore the file from a backup, or remove it and make new keys: kedro serve keys add",
        ) from error


def plan_key(
    name: str,
    role: str,
    *,
    now: datetime,
    known_surfaces: Collection[str],
    surfaces: Sequence[str] = (),
    rate_per_s: float | None = None,
    burst: int | None = None,
    days: float | None = None,
) -> tuple[str, ApiKey]:
    """Return a fresh key, and what is kept of it.

    Parameters
    ----------
    name, role
        Whose it is, and what for.
    now
        When it is made.
    known_surfaces
        Surfaces that there are.
    surfaces
        Surfaces that it may ask for; empty for all.
    rate_per_s, burst
        Its rate limit; without a burst that of one second, at least 1.
    days
        Days until it expires; None for never.

    Raises
    ------
    ConfigError
        Naming everything that is wrong.
    """
    problems = [f"no surface {s!r}{nearest(s, known_surfaces)}" for s in surfaces if s not in known_surfaces]
    if NAME.fullmatch(name) is None:
        problems.append(f"name {name!r}: up to 64 letters, digits, dots, hyphens, underscores, not a mark first")
    roles = [choice.value for choice in Role]
    if role not in roles:
        problems.append(f"no role {role!r}{nearest(role, roles)}, use one of {some(roles)}")
    if surfaces and role == Role.OPERATE:
        problems.append("a key of role operate asks for no surface")
    if rate_per_s is not None and not 0 < rate_per_s <= MAX_RATE_PER_S:
        problems.append(f"rate {rate_per_s:g}: requests a second, above 0 and at most {MAX_RATE_PER_S:g}")
    if burst is not None and (rate_per_s is None or not 1 <= burst <= MAX_BURST):
        problems.append(f"burst {burst}: from 1 to {MAX_BURST:,}, and only with a rate")
    if days is not None and not 0 < days <= MAX_DAYS:
        problems.append(f"days {days:g}: above 0 and at most {MAX_DAYS:,}")
    if problems:
        raise ConfigError(f"making an API key: {'; '.join(problems)}", next_step="see kedro serve keys add --help")
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_CHARACTERS))
    key = f"{_HEAD}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    kept = ApiKey(
        key_id,
        name,
        Role(role),
        digest_key(key.encode()).hex(),
        now,
        tuple(surfaces) or None,
        rate_per_s,
        burst or max(1, min(MAX_BURST, round(rate_per_s or 1))),
        None if days is None else now + timedelta(days=days),
    )
    return key, kept


def add_key(path: Path, key: ApiKey, now: datetime) -> None:
    """Put a key into a file, which is made if it is not there.

    Raises
    ------
    ConfigError
        If a valid key has its name, or the file cannot be understood.
    """
    with changing(path):
        keys = read_keys(path)
        if any(other.name == key.name and other.state(now) == "valid" for other in keys):
            raise ConfigError(
                f"making an API key: a valid key has the name {key.name!r}",
                next_step="take another name (a number at its end), change over, then revoke the old one",
            )
        if any(other.id == key.id for other in keys):
            raise ConfigError(f"making an API key: the id {key.id} is taken", next_step="try again")
        _write(path, [*keys, key])


def revoke_key(path: Path, which: str, now: datetime) -> ApiKey:
    """Make a valid key invalid, by its name or id; return it.

    Raises
    ------
    NotFoundError
        If no valid key is called that.
    ConfigError
        If the file cannot be understood.
    """
    with changing(path):
        keys = read_keys(path)
        valid = [key for key in keys if key.state(now) == "valid"]
        found = [key for key in valid if which in (key.id, key.name)]
        if not found:
            raise NotFoundError(
                f"revoking an API key: no valid key {which!r}{nearest(which, [key.name for key in valid])}",
                next_step="kedro serve keys list names them",
            )
        gone = msgspec.structs.replace(found[0], revoked_at=now)
        _write(path, [gone if key is found[0] else key for key in keys])
    return gone


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Let one process at a time read, change and write a file, whose folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, keys: list[ApiKey]) -> None:
    content = msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2)
    write_atomically(path, content + b"\n", mode=OWNER_ONLY)
