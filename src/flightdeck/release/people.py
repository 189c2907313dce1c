"""Who may do what to a release: people, their roles, and how they showed who they are.

`conf/base/people.yml` names roles, the actions of each and the people that have them. A `Person` is made by `identify`
once it is known how the name was established; every command asks the person for the permission and writes the proof
into its record. Where `authentication` is `stated` a name is taken at its word: for a demo on one machine, and each
record says so.
"""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from flightdeck.core.config import read_config
from flightdeck.core.errors import ReleaseRefused, some

ACTIONS = (
    "register",
    "record_verdict",
    "approve",
    "revoke_approval",
    "reject",
    "promote",
    "override",
    "emergency",
    "supersede",
    "freeze",
    "thaw",
    "rollback",
    "rehearse",
    "judge",
    "review",
    "change_tier",
    "lower_tier",
    "route",
)
STATED = "stated"
MAX_NAME = 200
CLOCK_SKEW = timedelta(minutes=2)


class PermissionDenied(ReleaseRefused):
    """Somebody asked for what none of their roles allows."""


class ConsentVoid(ReleaseRefused):
    """A move rests on an approval that counts no more: expired, of a revoked person, or under another policy."""


@dataclass(frozen=True)
class Person:
    """Somebody whose name is established.

    Parameters
    ----------
    name
        As it stands in the ledger.
    roles
        What they are at the release desk.
    actions
        What these roles allow.
    proof
        How the name was established: `stated`, `key:<id>` or `login:<subject>`.
    """

    name: str
    roles: tuple[str, ...]
    actions: frozenset[str]
    proof: str = STATED

    def require(self, action: str) -> None:
        """Refuse what no role of this person allows.

        Raises
        ------
        PermissionDenied
            Naming the roles of the person.
        """
        if action not in self.actions:
            raise PermissionDenied(
                f"{self.name} may not {action.replace('_', ' ')}: "
                f"{'has the roles ' + some(self.roles) if self.roles else 'has no role'}",
                next_step="ask somebody whose role allows it (conf/base/people.yml), or have the role given to you",
            )


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person of the register.

    Parameters
    ----------
    roles
        Their roles.
    logins
        Subjects or addresses by which a login names them.
    revoked
        Whether they are out: they may do nothing, and their approvals count no more.
    """

    roles: tuple[str, ...]
    logins: tuple[str, ...] = ()
    revoked: bool = False


class People(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The register.

    Parameters
    ----------
    authentication
        `stated` or `proven`.
    roles
        Actions of each role.
    people
        Roles of each person, by name.
    others
        Roles of a stated name that is not listed.
    login_valid_h
        Hours for which a login of the dashboard decides; afterwards the person logs in again.
    """

    authentication: Literal["stated", "proven"]
    roles: Mapping[str, tuple[str, ...]]
    people: Mapping[str, Listed] = {}
    others: tuple[str, ...] = ()
    login_valid_h: Annotated[float, msgspec.Meta(gt=0, le=720)] = 12.0

    def __post_init__(self) -> None:
        """Refuse roles and actions that do not exist, names that read alike, and roles for strangers behind a login."""
        problems = [
            f"role {role}: there is no action {action!r}"
            for role, actions in self.roles.items()
            for action in actions
            if action not in ACTIONS
        ]
        named = {name: listed.roles for name, listed in self.people.items()} | {"others": self.others}
        problems += [
            f"{name}: there is no role {role!r}"
            for name, roles in named.items()
            for role in roles
            if role not in self.roles
        ]
        keys = [person_key(name) for name in self.people]
        problems += [f"{name!r} is listed twice" for name in self.people if keys.count(person_key(name)) > 1]
        logins = [login for listed in self.people.values() for login in listed.logins]
        problems += [f"login {login!r} is two people's" for login in sorted(set(logins)) if logins.count(login) > 1]
        if self.authentication == "proven" and self.others:
            problems.append("others have roles although authentication is proven: list the people")
        if problems:
            raise ValueError("; ".join(problems))

    def identify(self, name: str, *, proof: str = STATED) -> Person:
        """Return the person of that name.

        Parameters
        ----------
        name
            As stated, or as the key or login says.
        proof
            How the name was established.

        Raises
        ------
        ReleaseRefused
            If it names nobody, or the register asks for a proof and there is none.
        PermissionDenied
            If the person is revoked.
        """
        wanted = plain_name(name)
        if self.authentication == "proven" and proof == STATED:
            raise PermissionDenied(
                f"{wanted} is only stated: this house asks for a proof of who decides",
                next_step="give your key in FLIGHTDECK_KEY (kedro release people key NAME), or log in to the dashboard",
            )
        known, listed = self._find(wanted)
        if listed is not None and listed.revoked:
            raise PermissionDenied(f"{known} is revoked and decides nothing any more")
        roles = listed.roles if listed is not None else self.others if proof == STATED else ()
        return Person(known, roles, frozenset(action for role in roles for action in self.roles[role]), proof)

    def by_login(self, subjects: Collection[str], *, signed_in_at: datetime, now: datetime) -> Person:
        """Return the person that a login names.

        Parameters
        ----------
        subjects
            What the login calls the person: a subject, an address that the provider has verified.
        signed_in_at
            When the provider said so.
        now
            When it is used.

        Raises
        ------
        PermissionDenied
            If nobody has that login, it is too old, or the person is revoked.
        """
        for name, listed in self.people.items():
            for subject in sorted(set(subjects) & set(listed.logins)):
                if (
                    not timedelta(0)
                    <= now - signed_in_at + CLOCK_SKEW
                    <= timedelta(hours=self.login_valid_h) + CLOCK_SKEW
                ):
                    raise PermissionDenied(
                        f"{name} logged in at {signed_in_at:%Y-%m-%d %H:%M} UTC; a login decides for "
                        f"{self.login_valid_h:g} h",
                        next_step="log out and in again",
                    )
                return self.identify(name, proof=f"login:{subject}")
        raise PermissionDenied(
            f"nobody has the login {some(sorted(subjects)) or 'without a subject'}",
            next_step="have it entered with a person in conf/base/people.yml",
        )

    def void_because(self, name: str, proof: str) -> str:
        """Return why what a person approved earlier counts no more, in words; empty where it does."""
        listed = self._find(name)[1]
        if listed is not None and listed.revoked:
            return "the person is revoked"
        if self.authentication == STATED:
            return ""
        if proof == STATED:
            return "the name was only stated"
        return "" if listed is not None else "the person is not in the register any more"

    def _find(self, name: str) -> tuple[str, Listed | None]:
        key = person_key(name)
        return next(
            ((known, listed) for known, listed in self.people.items() if person_key(known) == key), (name, None)
        )


def read_people(conf: Path) -> People:
    """Read `base/people.yml` below the configuration folder `conf`.

    Raises
    ------
    ConfigError
        If it is missing, has an unknown key or breaks a rule.
    """
    return read_config(conf / "base" / "people.yml", People)


def plain_name(name: str) -> str:
    """Return a name without surrounding or repeated blanks, refusing one that names nobody."""
    plain = " ".join(name.split())
    if not plain or not plain.isprintable() or len(plain) > MAX_NAME:
        raise ReleaseRefused(f"every decision has a person's name, got {name[:MAX_NAME]!r}", next_step="give --by NAME")
    return plain


def one_line(text: str) -> str:
    r"""Return text as one line of printable characters: it is shown in terminals and pages.

    Examples
    --------
    >>> one_line("calibrated\n in every\x1b[31m month")
    'calibrated in every [31m month'
    """
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def person_key(name: str) -> str:
    """Return what is equal for two spellings of one name: Unicode form, letter case and blanks do not count.

    Examples
    --------
    >>> person_key("Zoe\u0308  Smith") == person_key("ZOË SMITH")
    True
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def different_people(names: Collection[str]) -> int:
    """Return how many different people `names` are."""
    return len({person_key(name) for name in names})
