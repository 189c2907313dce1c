"""The range of events that each question sees, at its head and for each window, for a part of the questions.

All features of a part are computed before the next part is asked, so that what a step writes has a bound.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from flightdeck.features.event_index import KeyedStream
from flightdeck.features.measures import Measure

Ints = npt.NDArray[np.int64]
Window = tuple[int, int]  # length and tile, microseconds


@dataclass
class EventRanges:
    """The ranges `begin <= place < end` of ordered events that some questions see.

    Parameters
    ----------
    events
        Events of the questions' keys.
    part
        Which questions.
    """

    events: KeyedStream
    part: slice
    _begins: dict[Window, Ints] = field(default_factory=dict)
    _lengths: dict[Window, Ints] = field(default_factory=dict)
    _totals: dict[Measure, tuple[Ints, Ints]] = field(default_factory=dict)

    @cached_property
    def at_us(self) -> Ints:
        """Return the time of each question, UTC microseconds."""
        return self.events.keys.at_us[self.part]

    @cached_property
    def end(self) -> Ints:
        """Return where the events that each question sees end."""
        return self.events.place(self.events.stream.head(), self.part)

    @cached_property
    def start(self) -> Ints:
        """Return where the events of each question's key begin."""
        return self.events.first.take(self.events.keys.key[self.part])

    def begin(self, window: Window) -> Ints:
        """Return where each question's window begins."""
        if window not in self._begins:
            begin = self.events.place(self.events.stream.tail(*window), self.part)
            self._begins[window] = np.minimum(begin, self.end, out=begin)
        return self._begins[window]

    def length(self, window: Window) -> Ints:
        """Return the number of events of each question's window."""
        if window not in self._lengths:
            self._lengths[window] = self.end - self.begin(window)
        return self._lengths[window]

    def total(self, measure: Measure, window: Window) -> Ints:
        """Return a measure's total over each question's window, wrapping around 2**64."""
        if measure.role == "events" or (measure.role == "known" and self.events.stream.is_complete(measure.column)):
            return self.length(window)
        if measure not in self._totals:
            totals = self.events.totals(measure)
            self._totals[measure] = totals, totals.take(self.end)
        totals, until_end = self._totals[measure]
        until_begin = totals.take(self.begin(window))
        return np.subtract(until_end, until_begin, out=until_begin)
