"""The examples of docs/features.md run, in the order of the page, in one namespace."""

import doctest

from benchmarks.scale_features import PAGE as SCALE_PAGE
from benchmarks.scale_features import rewritten
from flightdeck.core.layout import PROJECT
from flightdeck.features.aggregates import KINDS

PAGE = PROJECT / "docs/features.md"


def test_every_example_of_the_page_gives_what_the_page_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(_only_fenced(text), {}, PAGE.name, str(PAGE), 0)
    failures: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=failures.append)
    assert result.failed == 0, "".join(failures)
    assert result.attempted > 30


def test_the_table_of_aggregates_names_every_one() -> None:
    written_as = {"sum": "total", "min": "lowest", "max": "highest"}
    text = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{written_as.get(kind, kind)}(" not in text] == []


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
