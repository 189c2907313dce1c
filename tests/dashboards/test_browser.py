"""All pages in a real Chromium against a real Streamlit server: on an empty house, and on a finished day."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from flightdeck.cli.processes import answers
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from tests.dashboards.data_root import CANDIDATE, EVIDENTLY_TEXT, NOTEBOOK_TEXT

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
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
READY_WITHIN_S = 60.0
PATIENCE_MS = 30_000.0
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"{CHROMIUM} is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield started
        started.close()


@contextmanager
def dashboard(root: Path, log_path: Path) -> Iterator[str]:
    """Run a server in a process group of its own and give its address; stop the group at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboards/app.py", "--server.port", str(port)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "FLIGHTDECK_DATA": str(root)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/_stcore/health"), process, log_path)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while not is_ready():
        assert process.poll() is None, log_path.read_text(errors="replace")
        assert time.monotonic() < deadline_s, log_path.read_text(errors="replace")
        time.sleep(0.1)


@contextmanager
def visitor(browser: Browser, url: str) -> Iterator[Page]:
    """Open the dashboard and prove at the end that nothing outside this machine was asked for."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    page.close()
    outside = [address for address in asked if not address.startswith((url, "data:", "blob:", "about:"))]
    assert not outside, f"the dashboard asks outside of this machine: {outside}"


def require_calm(page: Page) -> None:
    """Check that no exception is shown, once the page has finished running."""
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert "Traceback" not in page.content()


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


def open_page(page: Page, title: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()


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
