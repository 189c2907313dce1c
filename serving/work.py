"""What goes through the service: questions, the work that they are together, and replies."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from serving.batch import Batch, Rows
from serving.ladders import Answered
from serving.release_watch import LiveReleases
from serving.trace import Steps, Trace
from serving.wire import Ask


class Question(NamedTuple):
    """One validated request.

    Parameters
    ----------
    ask
        Its decoded body.
    request_id
        Its id.
    request_us
        Its time, UTC microseconds.
    arrived_s
        When it arrived, on the monotonic clock.
    trace
        What is noted about it; None if it is not traced.
    """

    ask: Ask
    request_id: str
    request_us: int
    arrived_s: float
    trace: Trace | None = None


class Reply(NamedTuple):
    """What goes back.

    Parameters
    ----------
    body
        JSON.
    mode
        The lowest mode among the items.
    """

    body: bytes
    mode: str


@dataclass(slots=True)
class Work:
    """A computed batch, ready to be answered.

    Parameters
    ----------
    questions
        Its requests.
    batch
        Their items.
    live
        What was live.
    answered
        Groups of items by route, which together cover each row once.
    arms, surfaces
        Arm and surface of each row.
    shadows
        Versions that score a copy, with their rows.
    took_s
        Time that computing took.
    """

    questions: Sequence[Question]
    batch: Batch
    live: LiveReleases
    answered: list[Answered]
    arms: list[str]
    surfaces: list[str]
    shadows: Sequence[tuple[int, Rows]]
    took_s: float

    @property
    def items_by_surface(self) -> dict[str, int]:
        """Number of items of each surface."""
        found: dict[str, int] = {}
        for question in self.questions:
            found[question.ask.surface] = found.get(question.ask.surface, 0) + len(question.ask.flights)
        return found


def steps_of(questions: Sequence[Question]) -> Steps | None:
    """Return where to note the steps of a batch of `questions`; None if none of them is traced."""
    if not any(map(attrgetter("trace"), questions)):
        return None
    steps = Steps()
    for question in questions:
        if question.trace is not None:
            question.trace.batch = steps
    return steps
