"""Every page against an empty data root, and against one that a replayed day has left."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from streamlit.testing.v1 import AppTest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.release.ledger import Ledger, open_ledger
from tests.dashboards.chromium import ARGUMENTS, CHROMIUM
from tests.dashboards.data_root import DAY, write_data_root

APP = PROJECT / "dashboards" / "app.py"
TIMEOUT_S = 60.0
OpenPage = Callable[..., AppTest]


@pytest.fixture(scope="session")
def finished_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root that is written once; tests take copies."""
    root = tmp_path_factory.mktemp("finished") / "data"
    write_data_root(root, mismatched=["feature_a", "feature_b"])
    return root


@pytest.fixture
def where(tmp_path: Path, finished_day: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Return the layout of a copy that this process and the pages read."""
    root = tmp_path / "data"
    shutil.copytree(finished_day, root)
    monkeypatch.setenv("FLIGHTDECK_DATA", str(root))
    return Layout(root)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Return the layout of a data root that does not exist yet."""
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "nothing"))
    return Layout(tmp_path / "nothing")


@pytest.fixture
def ledger(where: Layout) -> Ledger:
    return open_ledger(where.ledger, VirtualClock(DAY))


@pytest.fixture
def open_page() -> OpenPage:
    """Return a function that opens a page in Streamlit's test harness."""

    def open_page(name: str = "overview") -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=TIMEOUT_S).run()
        return app if name == "overview" else app.switch_page(f"screens/{name}.py").run()

    return open_page


@pytest.fixture(scope="module")  # while it lives its event loop runs, which other tests cannot have
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield started
        started.close()


def markup(app: AppTest) -> str:
    """Return the Markdown of everything that a page says in words, tables included."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.error, app.warning, app.success)
    said = [str(element.value) for kind in kinds for element in kind]
    said += [f"{metric.label} {metric.value}" for metric in app.metric]
    said += [table.value.to_csv() for table in (*app.table, *app.dataframe)]
    return "\n".join(said)


def texts(app: AppTest) -> str:
    """Return what people read of `markup`: escaped characters as themselves."""
    return re.sub(r"\\(.)", r"\1", markup(app))
