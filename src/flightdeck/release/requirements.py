"""What a version must have before a person may move it: a name, a stage, a verdict, approvals, a whole bundle."""

import unicodedata
from pathlib import Path

from flightdeck.core.errors import BundleRefused, NotFoundError, ReleaseRefused
from flightdeck.gates.policy import Tier
from flightdeck.inference.bundle import open_bundle, require_format
from flightdeck.release.state import VersionState

MAX_NAME = 200
MAX_REASON = 2000


def named_person(by: str, doing: str) -> str:
    """Return the name without surrounding or repeated blanks, refusing one that names nobody."""
    name = " ".join(by.split())
    if not name or not name.isprintable() or len(name) > MAX_NAME:
        raise ReleaseRefused(
            f"{doing}: every decision has a person's name, got {by[:MAX_NAME]!r}", next_step="give --by NAME"
        )
    return name


def person_key(name: str) -> str:
    """Return what is equal for two spellings of one name: Unicode form, letter case and blanks do not count.

    Examples
    --------
    >>> person_key("Zoe\u0308  Smith") == person_key("ZOË SMITH")
    True
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def plain_reason(reason: str) -> str:
    """Return a reason as one line of printable characters: it is shown in terminals and pages.

    Raises
    ------
    ReleaseRefused
        If it is longer than 2,000 characters.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in reason).split())
    if len(line) > MAX_REASON:
        raise ReleaseRefused(f"a reason has at most {MAX_REASON:,} characters, got {len(line):,}")
    return line


def require_stage(current: VersionState, legal: tuple[str, ...], done: str) -> None:
    """Refuse a version whose stage is not one of `legal`, naming those."""
    if current.stage not in legal:
        raise ReleaseRefused(
            f"version {current.version} is in {current.stage} and cannot be {done}; "
            f"that is legal in: {', '.join(legal)}"
        )


def require_verdict(current: VersionState) -> None:
    """Refuse a version that the gate has not looked at, or has failed, naming the failed checks."""
    if current.verdict_passed is None:
        raise ReleaseRefused(
            f"version {current.version} has no verdict: the gate has not looked at it",
            next_step="kedro run --config kedro.yml",
        )
    if not current.verdict_passed:
        raise ReleaseRefused(
            f"version {current.version} failed the gate: {', '.join(current.failed_checks)}",
            next_step=f"read its report (kedro release show {current.version}), train again; legal now: reject",
        )


def require_approvals(current: VersionState, tier: Tier) -> None:
    """Refuse a version that fewer different people approve than its tier asks for."""
    n_missing = tier.n_approvals - len({person_key(name) for name in current.approved_by})
    if n_missing > 0:
        have = ", ".join(current.approved_by) or "nobody"
        raise ReleaseRefused(
            f"version {current.version} is approved by {have}; tier {current.tier} needs {tier.n_approvals} "
            f"{'person' if tier.n_approvals == 1 else 'different people'}",
            next_step=f"kedro release approve {current.version} --by NAME",
        )


def require_bundle(current: VersionState, bundles: Path) -> None:
    """Refuse a version whose sealed bundle below `bundles` is missing, altered or of a format that is not served."""
    try:
        require_format(open_bundle(bundles / current.digest[:16], expected_digest=current.digest))
    except (BundleRefused, NotFoundError) as error:
        raise ReleaseRefused(
            f"version {current.version}: its bundle does not verify: {error.message}",
            next_step="restore the folder from a backup, or train again: kedro run --config kedro.yml",
        ) from error


def canary_share(current: VersionState, tier: Tier, share: float | None) -> float:
    """Return the canary share to set: the wished one if it is a step of the tier, else the next step."""
    steps = tier.canary_shares
    share = share if share is not None else next((s for s in steps if s > current.canary_share), steps[-1])
    if share not in steps:
        raise ReleaseRefused(
            f"promoting version {current.version} to canary with a share of {share}: "
            f"legal in tier {current.tier}: {', '.join(f'{step:g}' for step in steps)}"
        )
    if share == current.canary_share:
        raise ReleaseRefused(f"version {current.version} decides for a share of {share:g} already")
    return share
