"""A real Chromium against a real Streamlit server, which runs in a process of its own."""

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
from playwright.sync_api import Browser, Page, expect

from flightdeck.core.layout import PROJECT
from flightdeck.core.processes import answers

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
READY_WITHIN_S = 60.0
PATIENCE_MS = 30_000.0
needs_chromium = pytest.mark.skipif(
    not CHROMIUM.is_file(), reason=f"{CHROMIUM} is not installed: apt-get install chromium"
)


@contextmanager
def dashboard(root: Path, log_path: Path, project: Path = PROJECT) -> Iterator[str]:
    """Run a server in a process group of its own and give its address; stop the group at the end.

    `project` may be a copy with another configuration.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboards/app.py", "--server.port", str(port)]
    path = [str(project / "src"), str(project), os.environ.get("PYTHONPATH", "")]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=project,
            env={**os.environ, "FLIGHTDECK_DATA": str(root), "PYTHONPATH": os.pathsep.join(path)},
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
def visitor(browser: Browser, url: str, *known: str) -> Iterator[Page]:
    """Open the dashboard and prove at the end that nothing but it and the addresses `known` was asked for."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    page.close()
    outside = [address for address in asked if not address.startswith((url, *known, "data:", "blob:", "about:"))]
    assert not outside, f"the dashboard asks outside of this machine: {outside}"


def require_calm(page: Page) -> None:
    """Check that no exception is shown, once the page has finished running."""
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert "Traceback" not in page.content()


def open_page(page: Page, title: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
