"""How a request can be answered, best first: the rungs of the ladder as numbers, so that they index and compare."""

from enum import IntEnum


class Mode(IntEnum):
    """A rung of the ladder, or the refusal below it.

    Examples
    --------
    >>> Mode.FALLBACK > Mode.MODEL, Mode.FALLBACK.label
    (True, 'fallback')
    """

    MODEL = 0
    FALLBACK = 1
    RULES = 2
    REFUSED = 3

    @property
    def label(self) -> str:
        """Return its name as answers, logs and metrics spell it."""
        return self.name.lower()


RUNGS = (Mode.MODEL, Mode.FALLBACK, Mode.RULES)
