"""How values read: durations, shares, digests and times in words. Pure."""

import math
import re
from datetime import UTC, datetime

SHOWN_DIGEST = 12  # characters of a digest: enough to tell apart, short enough to read
NOTHING = "–"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~$:])")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def plain(text: object) -> str:
    r"""Return text that Streamlit's Markdown shows as it is: what people and files say is never markup.

    Examples
    --------
    >>> print(plain("*Ada*"))
    \*Ada\*
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def duration(seconds: float | None) -> str:
    """Return a duration by its two largest units.

    Examples
    --------
    >>> duration(5_400), duration(42), duration(float("inf"))
    ('1 h 30 min', '42 s', 'never heard')
    """
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if math.isinf(seconds):
        return "never heard"
    left, parts = max(round(seconds), 0), []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, never in scientific notation above 1e-4.

    Examples
    --------
    >>> figure(0.78345), figure(336776.0), figure(None), figure(3e-7)
    ('0.783', '336,776', '–', '3e-07')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "unbounded"
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}" if abs(value) < 1_000 else f"{value:,.1f}"


def share(value: float | None, digits: int = 2) -> str:
    """Return a share as a percentage, never rounded up to all.

    Examples
    --------
    >>> share(0.1), share(1.0), share(0.99999)
    ('10%', '100%', '99.99%')
    """
    if value is None or math.isnan(value):
        return NOTHING
    scale = 10**digits
    percent = math.floor(value * 100 * scale + 1e-9) / scale
    return f"{percent:.{digits}f}".rstrip("0").rstrip(".") + "%"


def moment(at: datetime | str | None) -> str:
    """Return a time as people write it, in UTC; `at` may be ISO 8601 text.

    Examples
    --------
    >>> moment("2013-09-12T18:30:00+00:00")
    '12 Sep 2013, 18:30 UTC'
    """
    if not at:
        return NOTHING
    try:
        found = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        return str(at)
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return f"{aware.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def short(digest: str) -> str:
    """Return the beginning of a digest."""
    return digest[:SHOWN_DIGEST] or NOTHING


def count(n: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> count(1, "alert"), count(1200, "row"), count(2, "breach", "breaches")
    ('1 alert', '1,200 rows', '2 breaches')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
