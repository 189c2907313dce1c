"""Tables of the gate notebook, as HTML that needs no script and no style sheet of its own.

Each function returns an object that Jupyter displays by its `_repr_html_`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from flightdeck.gates.verdict import Check, Verdict

GREEN, AMBER, RED, INK, FAINT = "#2f855a", "#b7791f", "#c53030", "#1f2933", "#61707f"
_CELL = "padding:6px 12px;border-bottom:1px solid #e4e7eb;text-align:left;vertical-align:top;"
_NUMBER = _CELL.replace("text-align:left", "text-align:right;font-variant-numeric:tabular-nums")


@dataclass(frozen=True)
class Html:
    """A piece of HTML that Jupyter shows as such."""

    content: str

    def _repr_html_(self) -> str:
        return self.content


def banner(verdict: Verdict) -> Html:
    """Return the verdict in one box: what the gate says, about which content, and which checks failed."""
    colour, word = (GREEN, "PASSED") if verdict.passed else (RED, "FAILED")
    n_advisory = sum(not check.passed and not check.blocking for check in verdict.checks)
    lines = [f"{len(verdict.checks)} checks, risk tier <b>{escape(verdict.tier)}</b>, {escape(verdict.made_at)}"]
    if verdict.failed:
        lines.append(f"blocking checks that failed: <b>{escape(', '.join(verdict.failed))}</b>")
    if n_advisory:
        lines.append(f"{n_advisory} advisory {'check' if n_advisory == 1 else 'checks'} outside the bound, see below")
    lines.append(f"content <code>{escape(verdict.subject)}</code>")
    return Html(
        f'<div style="border-left:8px solid {colour};background:#f7f9fb;padding:14px 20px;margin:8px 0;color:{INK}">'
        f'<div style="font-size:24px;font-weight:700;color:{colour};margin-bottom:6px">{word}</div>'
        + "".join(f'<div style="margin:2px 0">{line}</div>' for line in lines)
        + "</div>"
    )


def checks_table(checks: Iterable[Check]) -> Html:
    """Return a table of checks: outcome, name, value, bound and what it means."""
    rows = "".join(
        f'<tr><td style="{_CELL}">{_mark(check)}</td><td style="{_CELL}"><code>{escape(check.name)}</code></td>'
        f'<td style="{_NUMBER}"><b>{number(check.value)}</b></td><td style="{_NUMBER}">{number(check.threshold)}</td>'
        f'<td style="{_CELL}color:{FAINT}">{escape(check.detail)}</td></tr>'
        for check in checks
    )
    return _table(("", "check", "value", "bound", "meaning"), rows, numeric=(2, 3))


def family_table(families: Mapping[str, Sequence[Check]], *names: str) -> Html:
    """Return a table of the checks of the named families, or one sentence that the tier asks for none of them."""
    found = [check for name in names for check in families.get(name, ())]
    return checks_table(found) if found else Html(f'<p style="color:{FAINT}">This tier does not ask for it.</p>')


def outside(checks: Iterable[Check]) -> Html:
    """Return a table of the checks outside their bound, or one sentence that there are none."""
    found = [check for check in checks if not check.passed]
    return checks_table(found) if found else Html(f'<p style="color:{FAINT}">Every check is inside its bound.</p>')


def facts_table(facts: Mapping[str, object]) -> Html:
    """Return a two-column table of facts."""
    rows = "".join(
        f'<tr><td style="{_CELL}color:{FAINT}">{escape(name)}</td>'
        f'<td style="{_CELL}overflow-wrap:anywhere">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return _table((), rows)


def quality_html(table: pd.DataFrame) -> Html:
    """Return a quality table (`checks.quality_table`) with one row a segment."""
    rows = "".join(
        f'<tr><td style="{_CELL}"><b>{escape(str(name))}</b></td>'
        + "".join(f'<td style="{_NUMBER}">{_quality(column, row[column])}</td>' for column in table.columns)
        + "</tr>"
        for name, row in table.iterrows()
    )
    head = (str(table.index.name or ""), *map(str, table.columns))
    return _table(head, rows, numeric=tuple(range(1, len(head))))


def slices_html(table: pd.DataFrame) -> Html:
    """Return the slices (`slices.slice_table`), each with its excess log loss and the interval of it."""
    rows = "".join(
        f'<tr><td style="{_CELL}"><b>{escape(row["column"])} {escape(row["slice"])}</b></td>'
        f'<td style="{_NUMBER}">{row["rows"]:,}</td>'
        + "".join(f'<td style="{_NUMBER}">{row[name]:+.4f}</td>' for name in ("excess", "low", "high"))
        + "</tr>"
        for _, row in table.iterrows()
    )
    head = ("slice", "shared rows", "excess log loss", "low end", "high end")
    return _table(head, rows, numeric=tuple(range(1, len(head))))


def number(value: float | None) -> str:
    """Return a value with four significant digits, `-` for an unknown one."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.4g}"


def _mark(check: Check) -> str:
    if check.passed:
        colour, word = GREEN, "pass"
    else:
        colour, word = (RED, "FAIL") if check.blocking else (AMBER, "advisory")
    return f'<span style="color:{colour};font-weight:700">{word}</span>'


def _quality(column: str, value: float) -> str:
    return f"{value:,.0f}" if column == "rows" else f"{value:.3f}"


def _table(head: Sequence[str], rows: str, numeric: Sequence[int] = ()) -> Html:
    titles = "".join(
        f'<th style="{_NUMBER if i in numeric else _CELL}color:{FAINT};font-weight:600">{escape(title)}</th>'
        for i, title in enumerate(head)
    )
    top = f"<thead><tr>{titles}</tr></thead>" if head else ""
    style = f"border-collapse:collapse;font-size:13px;color:{INK};margin:6px 0"
    return Html(f'<table style="{style}">{top}<tbody>{rows}</tbody></table>')
