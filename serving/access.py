"""Who may ask for what: API keys, checked on each request in about one microsecond.

The keys are in a file (`flightdeck.inference.api_keys`) that `look` reads again when it changes; one that cannot be
understood changes nothing. Bound to loopback the service asks for no key, unless told to.

A rate limit is a token bucket in each worker with an equal part of the rate: which worker gets a connection is chance,
so a client with few connections may be refused below its rate; in the long run none is let through above it.
"""

import hmac
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

from flightdeck.core.clock import Clock
from flightdeck.core.errors import ConfigError
from flightdeck.inference.api_keys import ID_PLACE, KEY_CHARACTERS, ApiKey, Role, digest_key, read_keys
from serving.errors import RequestRefused
from serving.metrics import Metrics

BOTH = frozenset(Role)
ADVICE = "send a valid key as Authorization: Bearer <key> or X-API-Key: <key>; kedro serve keys add makes one"
_BEARER = b"bearer "
_NO_DIGEST = bytes(32)
_UNLIMITED = math.inf
_log = logging.getLogger(__name__)


class Grant:
    """What one key may, with what it has left of its rate; without a key, what everybody may.

    Parameters
    ----------
    key_id
        Public id of the key; empty without one.
    roles
        Its roles.
    surfaces
        Surfaces that it may ask for; None for all.
    digest
        SHA-256 of the key.
    rate_per_s, burst
        This worker's part of its rate limit.
    """

    __slots__ = ("_at_s", "_tokens", "burst", "digest", "key_id", "rate_per_s", "roles", "surfaces")

    def __init__(
        self,
        key_id: str,
        roles: frozenset[Role],
        surfaces: frozenset[str] | None = None,
        digest: bytes = _NO_DIGEST,
        rate_per_s: float = _UNLIMITED,
        burst: float = _UNLIMITED,
    ) -> None:
        self.key_id = key_id
        self.roles = roles
        self.surfaces = surfaces
        self.digest = digest
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = burst
        self._at_s = -math.inf

    def take(self, now_s: float) -> float:
        """Take one request from the bucket; return the seconds until there is one, 0 if it was taken."""
        if self.rate_per_s == _UNLIMITED:
            return 0.0
        self._tokens = min(self.burst, self._tokens + (now_s - self._at_s) * self.rate_per_s)
        self._at_s = now_s
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate_per_s

    def has_limit_of(self, other: "Grant") -> bool:
        """Tell whether both have the same rate limit, so that a bucket may go on."""
        return (self.rate_per_s, self.burst) == (other.rate_per_s, other.burst)

    def go_on_from(self, other: "Grant") -> None:
        """Take over what another has left."""
        self._tokens, self._at_s = other._tokens, other._at_s


ANYONE = Grant("", BOTH)
NOBODY = Grant("", frozenset())


class Access:
    """Decides about each request, for one worker.

    Parameters
    ----------
    path
        File of the keys.
    clock
        Tells when keys expire.
    metrics
        Where refusals are counted.
    is_required
        Whether a key is needed at all.
    n_workers
        How many workers share the rates.

    Raises
    ------
    ConfigError
        If keys are required and their file cannot be understood.
    """

    def __init__(self, path: Path, clock: Clock, metrics: Metrics, *, is_required: bool, n_workers: int = 1) -> None:
        self._file = path
        self._clock = clock
        self._metrics = metrics
        self._is_required = is_required
        self._n_workers = n_workers
        self._seen: tuple[int, int, int] | None = None
        self._keys: list[ApiKey] = []
        self._grants: dict[bytes, Grant] = {}
        if is_required:
            self._seen, self._keys = _signature(path), read_keys(path)
            self._install()

    def look(self) -> None:
        """Read the file again if it has changed, and leave out what has expired; called several times a second."""
        if not self._is_required:
            return
        seen = _signature(self._file)
        if seen != self._seen:
            self._seen = seen
            if seen is None:
                _log.error("the file of the API keys, %s, is gone; the keys read before go on", self._file)
            else:
                try:
                    self._keys = read_keys(self._file)
                except ConfigError as error:
                    _log.error("%s; the keys read before go on", error)
        self._install()

    def admit(self, headers: Mapping[bytes, bytes], roles: frozenset[Role]) -> Grant:
        """Return what the key of a request may.

        Parameters
        ----------
        headers
            Names in lower case and values, as ASGI gives them.
        roles
            Those of which its key needs one.

        Raises
        ------
        RequestRefused
            401 without a valid key, 403 if it has none of the roles, 429 if it asks more often than it may.
        """
        if not self._is_required:
            return ANYONE
        grant = self._find(headers)
        if grant is None:
            raise self._refused("key", "", 401, ADVICE, {"WWW-Authenticate": "Bearer"})
        if grant.roles.isdisjoint(roles):
            advice = f"take a key of role {' or '.join(sorted(roles))}"
            raise self._refused("role", grant.key_id, 403, advice)
        wait_s = grant.take(monotonic())
        if wait_s:
            retry_after = {"Retry-After": str(math.ceil(wait_s))}
            raise self._refused("rate", grant.key_id, 429, "come back after Retry-After seconds", retry_after)
        return grant

    def recognise(self, headers: Mapping[bytes, bytes]) -> Grant:
        """Return what the sender of a request may where no key is needed: `NOBODY` without a valid one."""
        return (self._find(headers) or NOBODY) if self._is_required else ANYONE

    def check_surface(self, grant: Grant, surface: str) -> None:
        """Let a surface pass that the key may ask for.

        Raises
        ------
        RequestRefused
            403 if it may not.
        """
        if grant.surfaces is not None and surface not in grant.surfaces:
            raise self._refused("surface", grant.key_id, 403, "take a key for this surface")

    def _find(self, headers: Mapping[bytes, bytes]) -> Grant | None:
        """Return the grant of the valid key that a request carries; as long in coming for an unknown id as for a known.

        `X-API-Key` goes before `Authorization`, which a proxy may have put there for itself.
        """
        key = headers.get(b"x-api-key")
        if key is None:
            given = headers.get(b"authorization", b"")
            key = given[len(_BEARER) :] if given[: len(_BEARER)].lower() == _BEARER else b""
        if len(key) != KEY_CHARACTERS:
            return None
        grant = self._grants.get(key[ID_PLACE], NOBODY)
        return grant if hmac.compare_digest(digest_key(key), grant.digest) and grant is not NOBODY else None

    def _install(self) -> None:
        """Make what valid keys may ready to be found; buckets go on."""
        now = self._clock.now()
        grants = {key.id.encode(): self._grant(key) for key in self._keys if key.state(now) == "valid"}
        for key_id, grant in grants.items():
            before = self._grants.get(key_id)
            if before is not None and before.has_limit_of(grant):
                grant.go_on_from(before)
        self._grants = grants

    def _grant(self, key: ApiKey) -> Grant:
        return Grant(
            key.id,
            frozenset([key.role]),
            None if key.surfaces is None else frozenset(key.surfaces),
            bytes.fromhex(key.digest),
            _UNLIMITED if key.rate_per_s is None else key.rate_per_s / self._n_workers,
            max(1.0, key.burst / self._n_workers),
        )

    def _refused(
        self, why: str, key_id: str, status: int, advice: str, headers: Mapping[str, str] | None = None
    ) -> RequestRefused:
        self._metrics.count_access_refusal(why, key_id)
        code, message = _EXPLAINED[why]
        return RequestRefused(status, code, message, next_step=advice, headers=headers)


_EXPLAINED = {
    "key": ("no_valid_key", "this needs an API key that is valid"),
    "role": ("wrong_role", "the role of this API key does not allow this"),
    "surface": ("wrong_surface", "this API key may not ask for this surface"),
    "rate": ("too_many_requests", "this API key asks more often than it may"),
}


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
