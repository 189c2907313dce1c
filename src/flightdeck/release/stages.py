"""Stages of a model version, and what is known of each version: the values that the fold over the ledger makes.

::

    candidate -> staging -> shadow -> canary -> prod -> archived
        |           |          |        |        |
     rejected    rejected   rejected rolled_back |       prod     (rollback brings the previous champion back)
                                              rolled_back -> staging  (a new attempt needs new approvals)

A shadow or canary whose evidence cannot be trusted is `frozen`: it keeps its traffic, and nothing moves it on until a
person lets it go on or takes it out. One that gives way to a newer version is `superseded`, for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flightdeck.inference.routing_rules import NO_RULES, Rules
from flightdeck.release.record import GENESIS

CANDIDATE, STAGING, SHADOW, CANARY, PROD = "candidate", "staging", "shadow", "canary", "prod"
FROZEN = "frozen"
ARCHIVED, REJECTED, ROLLED_BACK, SUPERSEDED = "archived", "rejected", "rolled_back", "superseded"
PROMOTIONS: Mapping[str, tuple[str, ...]] = {
    CANDIDATE: (STAGING,),
    STAGING: (SHADOW, CANARY),
    SHADOW: (CANARY,),
    CANARY: (CANARY, PROD),
    PROD: (),
    FROZEN: (),
    ARCHIVED: (),
    REJECTED: (),
    ROLLED_BACK: (STAGING,),
    SUPERSEDED: (),
}
REJECTABLE = (CANDIDATE, STAGING, SHADOW)
APPROVABLE = (CANDIDATE, STAGING, SHADOW, CANARY)
FREEZABLE = (SHADOW, CANARY)
SUPERSEDABLE = (CANDIDATE, STAGING, SHADOW, CANARY, FROZEN)
ROUTABLE = (STAGING, SHADOW, CANARY, FROZEN, PROD, ARCHIVED)
LIVE = (SHADOW, CANARY, FROZEN)


@dataclass(frozen=True)
class Approval:
    """A person's consent to one bundle under one policy.

    Parameters
    ----------
    name
        Who.
    roles
        Roles of that person at that moment.
    at, expires_at
        When it was given, and from when on it counts no more.
    policy_digest
        Digest of the tier's policy that it was given under.
    proof
        How the name was established: `stated`, `key:<id>` or `login:<subject>`.
    """

    name: str
    roles: tuple[str, ...]
    at: datetime
    expires_at: datetime
    policy_digest: str
    proof: str = "stated"


@dataclass(frozen=True)
class Evidence:
    """What the judge last said about a version in its present step.

    Parameters
    ----------
    verdict
        pass, fail, inconclusive or error.
    at
        When.
    n_requests
        Requests of the version that it rests on.
    """

    verdict: str
    at: datetime
    n_requests: int


@dataclass(frozen=True)
class Rehearsal:
    """A rollback from a version that was performed against a running server.

    Parameters
    ----------
    at
        When.
    duration_s
        From the order to the first moment at which every worker had left the version, seconds.
    to
        Version that answered afterwards.
    """

    at: datetime
    duration_s: float
    to: int | None


@dataclass(frozen=True)
class VersionState:
    """Where one model version stands.

    Parameters
    ----------
    version
        Number of the version in the model registry.
    digest
        Digest of its sealed bundle, 64 hexadecimal characters.
    tier
        Risk tier whose policy applies.
    model_name
        Name of the registered model.
    author
        Who made it, and therefore cannot approve it; empty where nobody said.
    stage
        One of candidate, staging, shadow, canary, prod, frozen, archived, rejected, rolled_back, superseded.
    entered_seq, entered_at
        Record that brought it into its present stage and share, and when.
    verdict_passed
        What the gate said; None before it looked.
    failed_checks
        Names of the blocking checks that failed.
    approvals
        Consents to this digest, in order; whether one still counts is for `requirements` to say.
    canary_share
        Share of the units that a canary decides for, in (0, 1); 0 in any other stage.
    frozen_from
        Stage that it was frozen in, else empty.
    evidence
        What the judge last said in the present step.
    rehearsal
        Its last rehearsed rollback.
    is_emergency
        Whether it takes the emergency path.
    review_due_at
        Until when an emergency release is to be reviewed; None where nothing is due.
    """

    version: int
    digest: str
    tier: str
    model_name: str
    author: str = ""
    stage: str = CANDIDATE
    entered_seq: int = 0
    entered_at: datetime | None = None
    verdict_passed: bool | None = None
    failed_checks: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    canary_share: float = 0.0
    frozen_from: str = ""
    evidence: Evidence | None = None
    rehearsal: Rehearsal | None = None
    is_emergency: bool = False
    review_due_at: datetime | None = None

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Names of the people who approved this digest, in order."""
        return tuple(approval.name for approval in self.approvals)

    @property
    def live_stage(self) -> str:
        """The stage, or the one that it was frozen in."""
        return self.frozen_from or self.stage


@dataclass(frozen=True)
class ReleaseState:
    """What is live, what waits and what was: the fold over all records up to `seq`, whose digest is `digest`.

    Parameters
    ----------
    versions
        Every version that was ever entered, by number.
    previous_champions
        Champions before this one that a rollback can return to, oldest first.
    rules
        Shadows, experiments and segments in force.
    segment_champions
        By segment: its champions before this one, oldest first; None stands for the champion of the table.
    seq, digest
        Of the newest record.
    """

    versions: Mapping[int, VersionState] = field(default_factory=dict)
    previous_champions: tuple[int, ...] = ()
    rules: Rules = NO_RULES
    segment_champions: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    seq: int = 0
    digest: str = GENESIS

    @property
    def champion(self) -> int | None:
        """Version in prod, or None."""
        return self._only(PROD)

    @property
    def canary(self) -> int | None:
        """Version in canary, frozen or not, or None."""
        return self._only(CANARY)

    @property
    def canary_share(self) -> float:
        """Share of the units that the canary decides for, 0 without one."""
        return self.versions[self.canary].canary_share if self.canary is not None else 0.0

    @property
    def shadow(self) -> int | None:
        """Version in shadow, frozen or not, or None: it scores a copy of all traffic."""
        return self._only(SHADOW)

    @property
    def candidate(self) -> int | None:
        """Newest version that waits in candidate, staging or shadow, or None."""
        waiting = [v.version for v in self.versions.values() if v.stage in (CANDIDATE, STAGING, SHADOW)]
        return max(waiting, default=None)

    @property
    def model_name(self) -> str | None:
        """Registered model that the versions belong to, or None before the first."""
        return next((v.model_name for v in reversed(list(self.versions.values()))), None)

    def _only(self, stage: str) -> int | None:
        return next((v.version for v in self.versions.values() if v.live_stage == stage), None)
