"""All pages in a real Chromium against a real Streamlit server: on an empty house, and on a finished day."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from flightdeck.core.layout import Layout
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from tests.dashboards.chromium import dashboard, needs_chromium, open_page, require_calm, visitor
from tests.dashboards.data_root import CANDIDATE, EVIDENTLY_TEXT, NOTEBOOK_TEXT

# what each page says last
EMPTY = {
    "Overview": "Monitoring has not looked yet",
    "Releases": "nothing has been released",
    "Rollout": "nothing has been released",
    "Experiments": "There is no experiments.json yet",
    "Drift & skew": "There is no skew.parquet yet",
    "Data & freshness": "There is no freshness.parquet yet",
    "Runbooks": "What to do about an alert",
}
FINISHED = {
    "Overview": "Earlier: 1 alert in the ledger",
    "Releases": "4 of 5 checks met",
    "Rollout": "before there is a champion there is nothing to compare with",
    "Experiments": "Sample ratio over 2,000 units",
    "Drift & skew": "6 mismatches",
    "Data & freshness": "never heard",
    "Runbooks": "What to do about an alert",
}
pytestmark = [pytest.mark.browser, needs_chromium]


def walk(page: Page, last_words: dict[str, str]) -> dict[str, str]:
    """Visit every page by its link and return what each says."""
    said = {}
    for title, expected in last_words.items():
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
        expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
        expect(page.get_by_test_id("stMain").get_by_text(expected).first).to_be_visible()
        require_calm(page)
        said[title] = page.get_by_test_id("stMain").inner_text()
    return said


def test_an_empty_house_says_on_every_page_what_to_run(browser: Browser, tmp_path: Path) -> None:
    with dashboard(tmp_path / "nothing", tmp_path / "server.log") as url, visitor(browser, url) as page:
        said = walk(page, EMPTY)
    assert "kedro monitor" in said["Overview"]
    assert "kedro run --config kedro.yml" in said["Releases"]
    assert "kedro monitor" in said["Drift & skew"]
    assert "kedro run --config kedro.yml" in said["Data & freshness"]
    assert "Traceback" not in (tmp_path / "server.log").read_text(errors="replace")


def test_a_finished_day_is_shown_and_its_candidate_approved(
    browser: Browser, where: Layout, ledger: Ledger, tmp_path: Path
) -> None:
    with dashboard(where.root, tmp_path / "server.log") as url, visitor(browser, url) as page:
        said = walk(page, FINISHED)
        assert "Version 1" in said["Overview"]
        assert "Breached" in said["Overview"]
        look_at_evidence(page)
        look_at_drift_report(page)
        approve(page)
        follow_runbook(page, url)
    state = current_state(ledger).versions[CANDIDATE]
    assert state.approved_by == ("Mary Jackson",)
    assert "Traceback" not in (tmp_path / "server.log").read_text(errors="replace")


def look_at_evidence(page: Page) -> None:
    """Open each tab of the version that waits; the notebook is shown inside the page."""
    open_page(page, "Releases")
    page.get_by_role("tab", name="Executed notebook").click()
    expect(page.frame_locator("iframe").get_by_text(NOTEBOOK_TEXT)).to_be_visible()
    for tab, expected in (("Provenance", "Git commit"), ("History", "registered"), ("Checks", "auc_15")):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel").get_by_text(expected).first).to_be_visible()
        require_calm(page)


def look_at_drift_report(page: Page) -> None:
    open_page(page, "Drift & skew")
    page.get_by_role("tab", name="Evidently report").click()
    expect(page.frame_locator("iframe").get_by_text(EVIDENTLY_TEXT)).to_be_visible()
    page.get_by_role("tab", name="All columns").click()
    page.get_by_role("radio", name="Mismatched only").click()
    require_calm(page)


def approve(page: Page) -> None:
    """Approve: first without a reason, which is refused in words, then properly."""
    open_page(page, "Releases")
    page.get_by_label("Your name").fill("Mary Jackson")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert").get_by_text("a reason")).to_be_visible()
    page.get_by_label("Reason").fill("calibrated in every month")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status").get_by_text("approved by Mary Jackson")).to_be_visible()
    require_calm(page)


def follow_runbook(page: Page, url: str) -> None:
    open_page(page, "Overview")
    page.get_by_test_id("stMain").get_by_role("link", name="Runbook").first.click()
    expect(page.get_by_role("heading", name="Runbooks", level=1)).to_be_visible()
    expect(page).to_have_url(f"{url}/runbooks?name=alert-input-drift")
    require_calm(page)
