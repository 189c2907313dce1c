"""Branches of lineage as a tree for terminals, and the report that their first branch comes from."""

import json
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from flightdeck.lineage.queries import Branch

STYLES = {"good": "green", "bad": "red"}


def as_tree(branch: Branch) -> Tree:
    """Return a branch and everything below it."""
    tree = Tree(Text(branch.label, style="bold"))
    for child in branch.children:
        _grow(tree, child)
    return tree


def read_report(path: Path) -> dict[str, Any]:
    """Return a report, empty where there is none that can be read: a page is shown without it."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _grow(tree: Tree, branch: Branch) -> None:
    below = tree.add(Text(branch.label, style=STYLES.get(branch.tone, "") or ("cyan" if branch.children else "")))
    for child in branch.children:
        _grow(below, child)
