"""Decisions by login: a real OIDC provider, a real browser, and a register that asks for proof."""

import base64
import http.client
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from flightdeck.core.layout import PROJECT, Layout
from flightdeck.release.ledger import Ledger
from tests.dashboards.chromium import dashboard, needs_chromium, open_page, require_calm, visitor
from tests.dashboards.data_root import CANDIDATE
from tests.dashboards.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, oidc_provider

pytestmark = [pytest.mark.browser, needs_chromium]

PEOPLE = """
authentication: proven
roles:
  reviewer: [approve, reject, freeze]
  operator: [rollback, freeze]
people:
  Ada Lovelace: {roles: [reviewer], logins: [subject-of-ada]%s}
  Olga: {roles: [operator], logins: [olga@example.org]}
"""
ADA = {"sub": "subject-of-ada", "email": "ada@example.org", "email_verified": True}
OLGA = {"sub": "subject-of-olga", "email": "olga@example.org", "email_verified": True}
IMPOSTOR = {"sub": "somebody", "email": "olga@example.org", "email_verified": False}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with oidc_provider() as running:
        yield running


@pytest.fixture
def house(tmp_path: Path, provider: Provider) -> Path:
    """Return a copy of the project whose register asks for proof and whose dashboard has a login."""
    house = tmp_path / "house"
    for name in ("src", "dashboards", "conf", ".streamlit"):
        shutil.copytree(PROJECT / name, house / name, ignore=shutil.ignore_patterns("__pycache__", "secrets.toml"))
    (house / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    (house / "conf/base/people.yml").write_text(PEOPLE % "")
    (house / ".streamlit/secrets.toml").write_text(
        f"""[auth]
redirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"
cookie_secret = "{"c" * 43}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
server_metadata_url = "{provider.url}/.well-known/openid-configuration"
"""
    )
    return house


def log_in(page: Page) -> None:
    open_page(page, "Releases")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()  # where Streamlit comes back to
    open_page(page, "Releases")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    open_page(page, "Releases")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_a_login_decides_for_its_person_and_for_nobody_else(
    browser: Browser, where: Layout, ledger: Ledger, house: Path, provider: Provider, tmp_path: Path
) -> None:
    with (
        dashboard(where.root, tmp_path / "server.log", house) as url,
        visitor(browser, url, provider.url) as page,
    ):
        open_page(page, "Releases")
        expect(page.get_by_label("Your name")).to_have_count(0)
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)

        provider.claims = IMPOSTOR
        log_in(page)
        expect(page.get_by_role("alert").get_by_text("Nobody has the login somebody")).to_be_visible()
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        log_out(page)

        provider.claims = OLGA
        log_in(page)
        expect(page.get_by_text("Olga, as operator, may not approve or reject")).to_be_visible()
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        log_out(page)

        provider.claims = ADA
        log_in(page)
        expect(page.get_by_label("Your name")).to_have_count(0)
        page.get_by_label("Reason").fill("calibrated in every month")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("status").get_by_text("approved by Ada Lovelace")).to_be_visible()
        require_calm(page)
        record = ledger.records()[-1]
        assert (record.action, record.actor, record.subject) == ("approved", "Ada Lovelace", str(CANDIDATE))
        assert record.detail["proof"] == "login:subject-of-ada"

        page.get_by_label("Reason").fill("on second thoughts")
        (house / "conf/base/people.yml").write_text(PEOPLE % ", revoked: true")
        page.get_by_role("button", name="Reject").click()
        expect(page.get_by_role("alert").get_by_text("is revoked").first).to_be_visible()
        expect(page.get_by_role("button", name="Reject")).to_have_count(0)
        require_calm(page)
    record = ledger.records()[-1]
    assert (record.action, record.actor, record.subject) == ("refused", "ada@example.org", str(CANDIDATE))
    assert "Ada Lovelace is revoked" in record.detail["reason"]
    assert "Traceback" not in (tmp_path / "server.log").read_text(errors="replace")


def test_another_site_cannot_speak_for_a_visitor(where: Layout, house: Path, tmp_path: Path) -> None:
    with dashboard(where.root, tmp_path / "server.log", house) as url:
        assert opens(url, origin=url)
        assert not opens(url, origin="http://elsewhere.example")


def opens(url: str, *, origin: str) -> bool:
    """Tell whether the dashboard talks to a page of `origin`."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Origin": origin,
    }
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/_stcore/stream", headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status in (http.HTTPStatus.SWITCHING_PROTOCOLS, http.HTTPStatus.FORBIDDEN)
    return status == http.HTTPStatus.SWITCHING_PROTOCOLS
