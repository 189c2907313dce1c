"""What the prediction log keeps of a batch: the answers, the flights, and the features as they were served."""

from collections.abc import Sequence
from time import monotonic

import numpy as np
import numpy.typing as npt

from flightdeck.inference.modes import Mode
from flightdeck.inference.onnx_model import Scores
from flightdeck.inference.prediction_log_batch import NONE, FeatureGroup, LogBatch
from flightdeck.inference.release_bundle import LoadedRelease
from serving.answers import Answers
from serving.batch import Rows
from serving.ladders import Answered
from serving.use_case import flight_ids
from serving.work import Work

SHADOW = "shadow"
Whole = npt.NDArray[np.int64]


def log_batch(work: Work, answers: Answers, rows: Sequence[int], logged_at_us: int) -> LogBatch:
    """Return the records of a batch.

    Parameters
    ----------
    work, answers
        The batch and its answers.
    rows
        Rows that were really answered, ascending.
    logged_at_us
        Now, UTC microseconds.
    """
    n_rows = work.batch.n_rows
    now_s = monotonic()
    latencies_ms = [(now_s - question.arrived_s) * 1e3 for question in work.questions]
    if n_rows == len(work.questions):
        place, latency_ms = np.zeros(n_rows, dtype=np.int64), np.array(latencies_ms)
        request_ids = [question.request_id for question in work.questions]
        units = [question.ask.unit_id for question in work.questions]
    else:
        sizes = [len(question.ask.flights) for question in work.questions]
        place = np.concatenate([np.arange(size) for size in sizes])
        latency_ms = np.repeat(latencies_ms, sizes)
        request_ids = [q.request_id for q, size in zip(work.questions, sizes, strict=True) for _ in range(size)]
        units = [q.ask.unit_id for q, size in zip(work.questions, sizes, strict=True) for _ in range(size)]
    feature_us, watermark_us = _read_times(work)
    batch = LogBatch(
        request_id=request_ids,
        item=place,
        surface=work.surfaces,
        unit_id=units,
        flight_id=answers.flight_id,
        mode=answers.mode,
        reason=answers.reason,
        arm=work.arms,
        decision=answers.decision,
        model_version=answers.model_version,
        bundle_digest=answers.bundle_digest,
        feature_offset=answers.offset,
        probability=answers.probability,
        latency_ms=latency_ms,
        logged_at_us=np.full(n_rows, logged_at_us),
        request_us=work.batch.request["request_us"],
        feature_us=feature_us,
        watermark_us=watermark_us,
        request=work.batch.request,
        features=[served for group in work.answered for served in _features(group)],
        model_ms=_model_ms(work),
    )
    return batch if len(rows) == n_rows else batch.take(np.array(rows, dtype=np.intp))


def shadow_batch(
    work: Work, release: LoadedRelease, rows: Rows, scores: Scores | None, took_ms: float, logged_at_us: int
) -> LogBatch:
    """Return the records of what a shadow predicted for some rows of a batch; nobody was given them.

    Where it failed (`scores` is None) they say so, without a probability.

    Raises
    ------
    ValueError
        If the shadow gave another number of probabilities than rows.
    """
    if scores is not None and scores.probability.shape != rows.shape:
        raise ValueError(f"{len(rows)} items, probabilities of shape {scores.probability.shape}")
    sizes = [len(question.ask.flights) for question in work.questions]
    owner = np.repeat(np.arange(len(sizes)), sizes)[rows].tolist()
    first = np.cumsum(sizes) - sizes
    features = work.batch.reading(release).features
    n_rows, request = len(rows), work.batch.rows(rows)
    at_us = np.full(n_rows, NONE) if features is None else features.rows_us[rows]
    return LogBatch(
        request_id=[work.questions[place].request_id for place in owner],
        item=rows - first[owner],
        surface=[work.surfaces[row] for row in rows.tolist()],
        unit_id=[work.questions[place].ask.unit_id for place in owner],
        flight_id=flight_ids(request),
        mode=[SHADOW] * n_rows,
        reason=[None if scores is not None else f"{SHADOW}:raised"] * n_rows,
        arm=[SHADOW] * n_rows,
        decision=[None] * n_rows,
        model_version=[release.version] * n_rows,
        bundle_digest=[release.digest] * n_rows,
        feature_offset=[None if features is None else features.offset] * n_rows,
        probability=scores.probability if scores is not None else np.full(n_rows, np.nan),
        latency_ms=np.full(n_rows, took_ms),
        logged_at_us=np.full(n_rows, logged_at_us),
        request_us=request["request_us"],
        feature_us=at_us,
        watermark_us=np.full(n_rows, NONE if features is None else features.watermark_us),
        request=request,
        features=[FeatureGroup(release.digest, scores.numeric)] if scores is not None else [],
        model_ms=np.full(n_rows, took_ms),
    )


def _read_times(work: Work) -> tuple[Whole, Whole]:
    """Return for each row the time that its features describe and what they reflect, `NONE` where none were read."""
    n_rows = work.batch.n_rows
    feature_us, watermark_us = np.full(n_rows, NONE), np.full(n_rows, NONE)
    for group in work.answered:
        places = set(group.found.rung.tolist())
        for place in places:
            release = group.steps[max(place, 0)].release
            read = work.batch.reading(release).features if work.batch.has_read(release) else None
            if read is not None and len(places) == len(work.answered) == 1:
                return read.rows_us, np.full(n_rows, read.watermark_us)
            if read is not None:
                rows = group.rows[group.found.rung == place]
                feature_us[rows], watermark_us[rows] = read.rows_us[rows], read.watermark_us
    return feature_us, watermark_us


def _model_ms(work: Work) -> npt.NDArray[np.float64]:
    """Return for each row what the run of the arm's own model took that answered it, NaN where none did."""
    took_ms = np.full(work.batch.n_rows, np.nan)
    for group in work.answered:
        for place, served in group.served.items():
            if group.steps[place].mode is Mode.MODEL:
                used = served.rows[group.found.rung[served.rows] == place]
                took_ms[group.rows[used]] = served.took_ms
    return took_ms


def _features(group: Answered) -> list[FeatureGroup]:
    """Return what models had read: the one that answered, or where none did the last one that was asked.

    What the fallback reads is computed from the request columns, which are logged anyway.
    """
    found = []
    if len(group.served) == 1:
        ((place, served),) = group.served.items()
        if len(served.rows) == len(group.rows) and group.steps[place].mode is Mode.MODEL:
            return [FeatureGroup(served.release.digest, served.numeric, group.rows)]
    is_open = np.ones(len(group.rows), dtype=bool)
    models = [place for place in group.served if group.steps[place].mode is Mode.MODEL]
    for is_last in (False, True):
        for place in reversed(models):
            served = group.served[place]
            used = is_open[served.rows]
            if not is_last:
                used &= group.found.rung[served.rows] == place
            if used.any():
                rows = served.rows[used]
                is_open[rows] = False
                numeric = served.numeric if used.all() else served.numeric[used]
                found.append(FeatureGroup(served.release.digest, numeric, group.rows[rows]))
    return found
