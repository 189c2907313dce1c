"""A tree of text as one HTML page that needs nothing else: no script, no font, no network."""

from collections.abc import Iterator
from html import escape

from flightdeck.lineage.queries import Branch

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5d6b7a; --line: #d5dce4; --card: #fff; --page: #f5f7f9;
  --good: #1b7a45; --bad: #b3362c; --blue: #1f5f99; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #9aa7b5; --line: #33404d; --card: #1a222b;
  --page: #11171d; --good: #5cc98b; --bad: #f0867c; --blue: #74b3ea; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: .8rem; margin: 0 0 .35rem; color: var(--soft); text-transform: uppercase; letter-spacing: .06em; }
section { position: relative; margin-left: 1.25rem; padding: 0 0 1.1rem 1.5rem; border-left: 2px solid var(--line); }
section:last-child { border-color: transparent; }
section::before { content: ""; position: absolute; left: -7px; top: 4px; width: 12px; height: 12px; border-radius: 50%;
  background: var(--blue); }
ul { list-style: none; margin: 0; padding: .55rem .9rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; overflow-wrap: anywhere; }
ul ul { border: 0; background: none; padding: 0 0 0 1.25rem; color: var(--soft); }
li { padding: .12rem 0; } .good { color: var(--good); } .bad { color: var(--bad); }
.good::before { content: "\\2713\\00a0"; } .bad::before { content: "\\2717\\00a0"; }
p { color: var(--soft); margin: 0; }
"""


def html_page(title: str, sentence: str, trees: list[Branch]) -> str:
    """Return a page with a heading for each tree and a card for each of its branches.

    Parameters
    ----------
    title, sentence
        What the page is about.
    trees
        In the order of reading. What they say is text, never markup.
    """
    body = "\n".join(part for tree in trees for part in _chapter(tree))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><main>\n<h1>{escape(title)}</h1>\n<p>{escape(sentence)}</p>\n"
        f"{body}\n</main></body>\n</html>\n"
    )


def _chapter(tree: Branch) -> Iterator[str]:
    yield f"<h2>{escape(tree.label)}</h2><div>"
    loose = [child for child in tree.children if not child.children]
    if loose:
        yield _list(loose)
    for child in tree.children:
        if child.children:
            yield f"<section><h3>{escape(child.label)}</h3>{_list(child.children)}</section>"
    yield "</div>"


def _list(branches: tuple[Branch, ...] | list[Branch]) -> str:
    return f"<ul>{''.join(map(_item, branches))}</ul>"


def _item(branch: Branch) -> str:
    tone = f' class="{escape(branch.tone)}"' if branch.tone else ""
    below = _list(branch.children) if branch.children else ""
    return f"<li><span{tone}>{escape(branch.label)}</span>{below}</li>"
