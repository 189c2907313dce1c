"""The examples of docs/features.md run, in the order of the page, in one namespace."""

import doctest
import re
from typing import Any

import pytest

from benchmarks.scale_features import PAGE as SCALE_PAGE
from benchmarks.scale_features import rewritten
from benchmarks.scale_page import figures
from flightdeck.core.layout import PROJECT
from flightdeck.features.aggregates import KINDS
from flightdeck.features.materializer import Materializer
from flightdeck.features.redis_keys import stream_key
from flightdeck.features.redis_store import RedisStore
from tests.redis_server import redis_url

PAGE = PROJECT / "docs/features.md"
TEXT = PAGE.read_text(encoding="utf-8")


def run_page(failures: list[str]) -> dict[str, Any]:
    """Run the examples of the page and return what they leave behind; what differs goes to `failures`."""
    example = doctest.DocTestParser().get_doctest(_only_fenced(TEXT), {}, PAGE.name, str(PAGE), 0)
    result = doctest.DocTestRunner(verbose=False).run(example, out=failures.append, clear_globs=False)
    assert result.attempted > 30
    return example.globs


def test_every_example_of_the_page_gives_what_the_page_says() -> None:
    failures: list[str] = []
    assert run_page(failures)["log"]
    assert not failures, "".join(failures)


def test_the_producer_of_the_page_reaches_every_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    page = run_page([])
    (producer,) = re.findall(r"```python\n(from flightdeck.features.redis_publish.*?)```", TEXT, re.DOTALL)
    with redis_url() as url:
        address = f"{url}?partitions=2&expire=1"
        for name in ("FLIGHTDECK_ONLINE_STORE", "FLIGHTDECK_EVENT_STREAM"):
            monkeypatch.setenv(name, address)
        store = RedisStore.open(address, read_only=False)
        Materializer(store, [page["airport"]]).backfill(page["log"], page["clock"]("12:00"))
        exec(producer, page)  # noqa: S102
        waiting = store.nodes.ask([(partition, ("XLEN", stream_key(partition))) for partition in range(2)])
        store.close()
    assert waiting == [1, 1]  # the events, and the watermark for the partition that has none of them


def test_the_table_of_aggregates_names_every_one() -> None:
    written_as = {"sum": "total", "min": "lowest", "max": "highest"}
    assert [kind for kind in KINDS if f"`{written_as.get(kind, kind)}(" not in TEXT] == []


def _only_fenced(text: str) -> str:
    """Return the page with every line outside its Python blocks made empty, so that line numbers stay."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            kept.append("")
            continue
        kept.append(line if inside else "")
    return "\n".join(kept) + "\n"


def test_the_table_of_the_scale_page_follows_from_its_figures() -> None:
    text = SCALE_PAGE.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run python -m benchmarks.scale_features"


def test_the_scale_page_has_each_ratio_or_says_how_to_measure_it() -> None:
    text = SCALE_PAGE.read_text(encoding="utf-8")
    given = figures(text)
    measured, missing = given["against_peers"], given["not_measured_yet"]
    explained = set(re.findall(r"`(ratio_\w+)`", text))
    assert explained == {*measured, *(name for name in missing if name.startswith("ratio_"))}
    assert not set(measured) & set(missing)
    assert all(value > 0 for value in measured.values())
    targets = re.findall(r"^bench[\w-]*(?=:)", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {command.removeprefix("make ") for command in missing.values()} <= set(targets)
