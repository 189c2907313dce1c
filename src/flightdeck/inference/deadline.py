"""Until when a request must be answered: what its header asks for, held to the bounds of its surface.

The rule: a header `X-Request-Timeout-Ms` that is a decimal number in ASCII (sign, fraction and exponent allowed, at
most 32 characters) is clamped to `least .. most` of the surface, so 0, -5 and 1e18 are answered like its bounds.
Anything else (text, NaN, inf, digits of other scripts, spaces inside, an empty value) is ignored: the default of the
surface holds. A header is never an error.
"""

import re

from flightdeck.inference.surface_policy import LatencyBudget

HEADER = "X-Request-Timeout-Ms"
_NUMBER = re.compile(rb"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_MAX_LENGTH = 32


class DeadlineRule:
    """Deadlines of one surface.

    Parameters
    ----------
    budget
        Its default and its bounds.

    Examples
    --------
    >>> rule = DeadlineRule(LatencyBudget(default=150, least=20, most=2000))
    >>> rule.deadline_s(100.0, None), rule.deadline_s(100.0, b"500"), rule.deadline_s(100.0, b"1e18")
    (100.15, 100.5, 102.0)
    """

    def __init__(self, budget: LatencyBudget) -> None:
        self._default_s = budget.default / 1e3
        self._least_ms = budget.least
        self._most_ms = budget.most

    def deadline_s(self, arrived_s: float, header: bytes | None) -> float:
        """Return the deadline, on the monotonic clock of `arrived_s`.

        Parameters
        ----------
        arrived_s
            When the request arrived, in seconds.
        header
            Value of the header as received, None without one.
        """
        if header is None:
            return arrived_s + self._default_s
        asked_ms = parse_timeout_ms(header)
        if asked_ms is None:
            return arrived_s + self._default_s
        return arrived_s + min(max(asked_ms, self._least_ms), self._most_ms) / 1e3


def parse_timeout_ms(header: bytes) -> float | None:
    """Return the number of milliseconds in a header, None if it is none; huge ones are infinite.

    Examples
    --------
    >>> [parse_timeout_ms(value) for value in (b" 250 ", b"-1", b"1e999", b"nan", b"1_0", "\u0661".encode())]
    [250.0, -1.0, inf, None, None, None]
    """
    value = header.strip(b" \t")
    if len(value) > _MAX_LENGTH or not _NUMBER.fullmatch(value):
        return None
    return float(value)
