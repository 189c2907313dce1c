"""The register: what it refuses to be, and whom it knows."""

from datetime import UTC, datetime, timedelta

import pytest

from flightdeck.core.errors import ReleaseRefused
from flightdeck.release.people import Listed, People, PermissionDenied, plain_name

NOW = datetime(2013, 9, 12, 12, tzinfo=UTC)
ROLES = {"reviewer": ("approve", "reject"), "operator": ("rollback",)}
REGISTER = People(
    "proven",
    ROLES,
    {
        "Ada": Listed(("reviewer",), ("sub-ada", "ada@example.org")),
        "Eve": Listed(("reviewer",), ("sub-eve",), revoked=True),
    },
)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"roles": {"reviewer": ("aprove",)}}, "there is no action 'aprove'"),
        ({"people": {"Ada": Listed(("boss",))}}, "there is no role 'boss'"),
        ({"people": {"Ada": Listed(()), "ADA": Listed(())}}, "'ADA' is listed twice"),
        ({"people": {"Ada": Listed((), ("a",)), "Bob": Listed((), ("a",))}}, "login 'a' is two people's"),
        ({"others": ("reviewer",)}, "others have roles although authentication is proven"),
    ],
)
def test_a_register_that_cannot_be_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        People(**{"authentication": "proven", "roles": ROLES, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", ["sub-ada", "ada@example.org"])
def test_a_login_is_its_person(subject: str) -> None:
    person = REGISTER.by_login([subject, "other"], signed_in_at=NOW, now=NOW)
    assert (person.name, person.roles, person.proof) == ("Ada", ("reviewer",), f"login:{subject}")
    assert person.actions == {"approve", "reject"}


@pytest.mark.parametrize(
    ("subjects", "age", "said"),
    [
        (["sub-bob"], timedelta(0), "nobody has the login sub-bob"),
        ([], timedelta(0), "nobody has the login"),
        (["sub-eve"], timedelta(0), "Eve is revoked"),
        (["sub-ada"], timedelta(hours=12, minutes=3), "a login decides for 12 h"),
        (["sub-ada"], timedelta(days=30), "a login decides for 12 h"),
        (["sub-ada"], -timedelta(hours=1), "a login decides for 12 h"),
    ],
)
def test_a_login_that_is_nobodys_or_too_old_or_a_revoked_persons_is_refused(
    subjects: list[str], age: timedelta, said: str
) -> None:
    with pytest.raises(PermissionDenied, match=said):
        REGISTER.by_login(subjects, signed_in_at=NOW - age, now=NOW)


def test_a_stated_name_is_refused_where_proof_is_asked_for() -> None:
    with pytest.raises(PermissionDenied, match="only stated"):
        REGISTER.identify("Ada")


@pytest.mark.parametrize("name", ["", " ", "a\nb\x1b[31m", "a\x00", "x" * 201, "\u202eAda"])
def test_a_name_is_one_line_that_can_be_printed(name: str) -> None:
    with pytest.raises(ReleaseRefused, match="a person's name"):
        plain_name(name)
