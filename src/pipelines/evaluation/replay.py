"""Asking a server about rows of the training set, each when its store knows what training knew, in order of time.

Training sees what was known `publication_lag_s` before a question (`features.training_frame`). So the store is filled
from the event log to that moment, the question is asked, and the store learns what became known until the next one.
"""

import http.client
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, FlightdeckError
from flightdeck.events.log import EventLog
from flightdeck.features.event_feed import EventFeed
from flightdeck.features.materializer import Materializer
from flightdeck.inference.deadline import HEADER
from flightdeck.monitoring.prediction_log import read_predictions
from pipelines.evaluation.sample import Rows, Sample, unit_id

PATH, BY_MODEL = "/v1/predictions", "model"
HEADERS = {"Content-Type": "application/json"}
UNHURRIED = {**HEADERS, HEADER: "60000"}  # what is answered counts here, not how fast
PATIENCE_S = 60.0
N_AGAIN, AGAIN_S = 5, 1.0
OK = 200


@dataclass(frozen=True)
class Replayed:
    """Rows of the sample as they were served.

    Parameters
    ----------
    rows
        Which rows, `(n,)`.
    numeric
        What the model read, as the prediction log has it, float32 `(n, n_numeric)`.
    probability
        What was answered, `(n,)`.
    last_us
        What the store knew in the end, UTC microseconds.
    """

    rows: Rows
    numeric: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float64]
    last_us: int


def replay(
    sample: Sample, days: Sequence[Rows], *, lag_s: int, log: EventLog, store: Materializer, port: int, asked: Path
) -> Replayed:
    """Ask a server about rows of the sample, one after the other.

    Parameters
    ----------
    sample
        The sample.
    days
        Rows to ask about, in order of time; the store is filled anew for each part.
    lag_s
        How long before a question training looks, in seconds.
    log
        Event log.
    store
        Writer of the server's online store.
    port
        Where the server listens.
    asked
        The server's prediction log.

    Raises
    ------
    FlightdeckError
        If a question is not answered, or not by the model.
    """
    known_us = sample.request_us - lag_s * SECOND_US
    answers: list[Mapping[str, Any]] = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        for rows in days:
            feed = EventFeed(log, store, int(known_us[rows[0]]), int(known_us[rows[-1]]))
            for row in rows:
                if known_us[row] > feed.watermark_us:
                    feed.advance_to(int(known_us[row]))
                answers.append(_ask_patiently(connection, sample.question(int(row))))
    rows = np.concatenate(days)
    _require_model(answers)
    probability = np.array([answer["probability"] for answer in answers], dtype=np.float64)
    return Replayed(rows, _logged(asked, rows, len(sample.names)), probability, feed.watermark_us)


def _ask_patiently(connection: http.client.HTTPConnection, question: bytes) -> Mapping[str, Any]:
    """Return the model's answer, or the last other one: on a busy machine the server may leave its store alone a while.

    Values are compared here, and no time; the prediction log counts the last answer to a question.
    """
    answer = _ask(connection, question)
    for _ in range(N_AGAIN):
        if answer["mode"] == BY_MODEL:
            break
        time.sleep(AGAIN_S)
        answer = _ask(connection, question)
    return answer


def _ask(connection: http.client.HTTPConnection, question: bytes) -> Mapping[str, Any]:
    connection.request("POST", PATH, question, UNHURRIED)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != OK:
        raise FlightdeckError(
            f"asking about a row of the sample: status {answer.status}, {content[:300].decode(errors='replace')}"
        )
    found: Mapping[str, Any] = msgspec.json.decode(content)["predictions"][0]
    return found


def _require_model(answers: Sequence[Mapping[str, Any]]) -> None:
    otherwise = [answer for answer in answers if answer["mode"] != BY_MODEL]
    if otherwise:
        raise FlightdeckError(
            f"replaying the sample: {len(otherwise)} of {len(answers)} questions were not answered by the model; the "
            f"first by {otherwise[0]['mode']}, because of {otherwise[0]['reason']}"
        )


def _logged(folder: Path, rows: Rows, n_numeric: int) -> npt.NDArray[np.float32]:
    """Return the features of each row as the prediction log has them."""
    log = read_predictions(folder)
    features = dict(zip(log["unit_id"], log["features"], strict=True))
    found = [features.get(unit_id(int(row))) for row in rows]
    whole = [values for values in found if values is not None and len(values) == n_numeric]
    if len(whole) < len(rows):
        n_broken = len(rows) - len(whole)
        raise ContractViolation(
            f"reading the prediction log of the replay: {n_broken} of {len(rows)} answers lack their features",
            next_step="the surface that is asked must log all of its answers: log_rate in surfaces.yml",
        )
    return np.stack(whole).astype(np.float32)
