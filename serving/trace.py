"""One traced request: what is noted about it on its way. `serving.traces` decides who is traced, and sends them.

Steps are noted by monotonic time while a request runs, and become spans once it is answered: nobody waits for a trace.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, NamedTuple

Fact = str | bool | int | float | tuple[str, ...] | tuple[int, ...]


class Step(NamedTuple):
    """A step that is done: its name, when it began and ended (monotonic nanoseconds), and what it was about."""

    name: str
    began_ns: int
    ended_ns: int
    facts: Mapping[str, Fact]


class Steps:
    """The steps of a batch, which all of its traced requests share.

    Examples
    --------
    >>> steps = Steps()
    >>> with steps.take("read features") as facts:
    ...     facts["flightdeck.items"] = 3
    >>> [(step.name, step.facts) for step in steps.done]
    [('read features', {'flightdeck.items': 3})]
    """

    def __init__(self) -> None:
        self.began_ns = monotonic_ns()
        self.done: list[Step] = []

    @contextmanager
    def take(self, name: str, facts: Mapping[str, Fact] | None = None) -> Iterator[dict[str, Fact]]:
        """Note a step while the block runs; what it puts into the given dict is noted too, and what it raises."""
        began_ns, known = monotonic_ns(), dict(facts or {})
        try:
            yield known
        except BaseException as error:
            known["error.type"] = type(error).__name__
            raise
        finally:
            self.done.append(Step(name, began_ns, monotonic_ns(), known))


@dataclass(slots=True)
class Trace:
    """A request that is traced.

    Parameters
    ----------
    parent
        OpenTelemetry's context of the client's span; an empty one where it named none.
    began_ns
        When the request arrived, monotonic nanoseconds.
    facts
        What is known about it.
    admitted_ns
        When it was admitted; 0 while it was not.
    batch
        Steps of the batch that it was computed in; None before that.
    """

    parent: Any
    began_ns: int
    facts: dict[str, Fact]
    admitted_ns: int = 0
    batch: Steps | None = field(default=None)

    def admitted(self) -> None:
        """Note that the request waits for its batch from now on."""
        self.admitted_ns = monotonic_ns()

    def steps(self, ended_ns: int) -> list[Step]:
        """Return all steps of the request, which ended at `ended_ns`, in order."""
        found = [Step("admit", self.began_ns, self.admitted_ns or ended_ns, {})]
        if self.admitted_ns:
            found.append(Step("wait", self.admitted_ns, self.batch.began_ns if self.batch else ended_ns, {}))
        return found + (self.batch.done if self.batch else [])
