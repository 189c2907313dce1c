"""The first requests, asked by the service itself: whatever is made at first use is made before anybody waits.

The store is opened, every rung answers once at several batch sizes, and the scheduler learns what they really cost.
Nothing is logged and nothing is counted.
"""

from time import monotonic

import msgspec

from flightdeck.core.clock import Clock, to_us
from flightdeck.inference.modes import RUNGS
from flightdeck.inference.scheduler import Scheduler
from serving.answers import answers_of, encode, items_of
from serving.documentation import EXAMPLE
from serving.log_records import log_batch
from serving.service import PredictionService
from serving.wire import decode
from serving.work import Question

SIZES = ((1, 1), (1, 1), (16, 1), (16, 1), (1, 50), (4, 50), (1, 1))  # requests, items of each


def warm_up(service: PredictionService, scheduler: Scheduler, clock: Clock) -> None:
    """Answer the documented example a few times by each rung; needs a champion."""
    ask = decode(msgspec.json.encode(EXAMPLE))
    at_us = to_us(clock.now())
    for mode in RUNGS:
        for place, (size, n_items) in enumerate(SIZES):
            began_s = monotonic()
            many = msgspec.structs.replace(ask, flights=ask.flights * n_items)
            questions = [Question(many, "warm-up", at_us, began_s)] * size
            work = service.compute(questions, mode, "warm_up")
            answers = answers_of(work.batch, work.surfaces, work.answered)
            log_batch(work, answers, range(work.batch.n_rows), at_us)
            encode("warm-up", ask.surface, items_of(answers, work.arms))
            if place:
                scheduler.observe(mode, work.batch.n_rows, monotonic() - began_s, size)
