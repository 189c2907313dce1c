"""Reading the project's pages: code in Markdown, commands in code, strings of advice in Python."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from flightdeck.core.layout import PROJECT

_FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Return every Markdown page of the project."""
    return sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


def code_lines(text: str) -> list[str]:
    """Return the lines of fenced blocks, continued lines joined, and the inline code of a page, on one line each."""
    blocks = "\n".join(_FENCE.findall(text)).replace("\\\n", " ")
    spans = [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text))]
    return [*blocks.splitlines(), *spans]


def links(text: str) -> list[str]:
    """Return the targets of links to files, without anchors."""
    found = (target.partition("#")[0] for target in _LINK.findall(_FENCE.sub("", text)))
    return [target for target in found if target and "://" not in target]


def commands(line: str, program: str) -> Iterator[list[str]]:
    """Yield the words after each `program` of a line of code, up to the end of that command."""
    for part in re.split(r"[;&>]+| \| |#", line):
        match = re.search(rf"(?:^|[\s/(]){program} (.+)", part.strip())
        if match:
            yield match.group(1).replace("`", "").split()


def advice() -> Iterator[tuple[Path, str]]:
    """Yield each `next_step` and each module-level text of the Python sources, with its file."""
    for folder in ("src", "serving", "dashboards"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            values = [item.value for item in tree.body if isinstance(item, ast.Assign)]
            values += [
                item.value for item in ast.walk(tree) if isinstance(item, ast.keyword) and item.arg == "next_step"
            ]
            for value in values:
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield path.relative_to(PROJECT), part.value
