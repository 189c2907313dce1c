"""Who sits before the dashboard: the person of an OIDC login where the house asks for proof, else a stated name.

Streamlit verifies the login and keeps its claims in a signed cookie for 30 days (`.streamlit/secrets.toml`). The cookie
only names somebody: whether that person is still there, what they may do and whether the login is too old is read from
the register at each decision.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import streamlit as st

from dashboards.panels import show_error
from dashboards.wording import plain
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError
from flightdeck.release.people import People, PermissionDenied, Person

NO_LOGIN = ConfigError(
    "this house asks for a proof of who decides, and the dashboard has no login yet",
    next_step="enter the OIDC provider in .streamlit/secrets.toml: docs/how-to/approve-a-release.md",
)


def login_name(claims: Mapping[str, object]) -> str:
    """Return what a login calls its person: for a record where nobody of the register has it."""
    return str(claims.get("email") or claims.get("sub") or "unknown")


def logged_in_person(people: People, claims: Mapping[str, object]) -> Person:
    """Return the person of a login.

    Parameters
    ----------
    people
        The register.
    claims
        Of the identity token: `sub`, `email` with `email_verified`, `iat` in seconds since 1970.

    Raises
    ------
    PermissionDenied
        If nobody is logged in or has that login, it is too old, or the person is revoked.
    """
    if not claims.get("is_logged_in"):
        raise PermissionDenied("nobody is logged in", next_step="log in, then decide")
    subjects = [str(claims["sub"])] if claims.get("sub") else []
    if claims.get("email") and claims.get("email_verified") is True:
        subjects.append(str(claims["email"]))
    issued = claims.get("iat")
    signed_in_at = (
        datetime.fromtimestamp(issued, UTC) if isinstance(issued, int | float) else datetime.min.replace(tzinfo=UTC)
    )
    return people.by_login(subjects, signed_in_at=signed_in_at, now=SystemClock().now())


def show_login(people: People) -> Person | None:
    """Show who is logged in, or the way to log in; return the person if it is somebody who may be here."""
    claims = st.user.to_dict()
    if "is_logged_in" not in claims:
        show_error(NO_LOGIN)
        return None
    if not claims["is_logged_in"]:
        st.markdown("Log in to decide: your name is that of your login.")
        st.button("Log in", type="primary", icon=":material/login:", on_click=st.login)
        return None
    try:
        person = logged_in_person(people, claims)
    except PermissionDenied as error:
        show_error(error)
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        roles = " ".join(f":gray-badge[{plain(role)}]" for role in person.roles) or ":gray-badge[no role]"
        st.markdown(f":material/account_circle: **{plain(person.name)}** {roles}")
        st.button("Log out", type="tertiary", icon=":material/logout:", on_click=st.logout)
    return person
