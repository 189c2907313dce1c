"""The door to onnxruntime of a server: a model opened from a file of a verified bundle.

A session is made from a path, never from bytes: with bytes, external tensor data is looked for in the current working
directory, with a path only beside the file, where every file was compared with the manifest. One thread a call: the
default thread pool loses at every batch size on small machines.

Tensors that lie beside the graph are mapped and used as they lie there: reordering them at load (prepacking) would copy
each of them into memory, twice the size of the bundle at its peak, and every worker would have a copy of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from flightdeck.core.errors import BundleRefused, some
from flightdeck.inference.external_data import external_locations
from flightdeck.inference.run_limit import LimitedRuns

VIEWS, NUMERIC, PROBABILITIES = "views", "numeric", "probabilities"
INT64, STRING = "int64", "string"
_KINDS = {"tensor(int64)": INT64, "tensor(string)": STRING}
_RETRAIN = "train and export again: kedro run --config kedro.yml"
_REFUSALS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)
Floats = npt.NDArray[np.float64]


class Scores(NamedTuple):
    """What a model makes of some rows, in their order.

    Parameters
    ----------
    probability
        Probability of the positive class, float64 `(n,)`, exactly as the model gives it: the caller guards it.
    numeric
        The numeric features that the model has read, float32 `(n, n_numeric)`; NaN means missing.
    """

    probability: Floats
    numeric: npt.NDArray[np.float32]


class OnnxModel:
    """A binary classifier over request columns and view columns; calls are thread-safe.

    Use `OnnxModel.open`.

    Parameters
    ----------
    session
        Open onnxruntime session.
    request
        Kind (`int64` or `string`) of each request column that it reads.
    n_views
        Number of columns of the input `views`; 0: it has none.
    n_numeric
        Number of columns of the output `numeric`.
    """

    def __init__(self, session: Any, request: Mapping[str, str], n_views: int, n_numeric: int) -> None:
        self._runs = LimitedRuns(session, ort.RunOptions)
        self.request = dict(request)
        self.n_views = n_views
        self.n_numeric = n_numeric

    @classmethod
    def open(cls, path: Path, *, n_views: int, n_numeric: int) -> "OnnxModel":
        """Open the model file at `path` and compare its inputs and outputs with what the bundle declares.

        Parameters
        ----------
        path
            File inside a verified bundle.
        n_views
            Number of view columns; 0: the model must not ask for any.
        n_numeric
            Number of numeric features.

        Raises
        ------
        BundleRefused
            If the file cannot be read or onnxruntime refuses it, or inputs or outputs differ from the declaration.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            if external_locations(path):
                options.add_session_config_entry("session.disable_prepacking", "1")
        except OSError as error:
            raise BundleRefused(f"opening {path}: it cannot be read: {error}", next_step=_RETRAIN) from error
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _REFUSALS as error:
            raise BundleRefused(f"opening {path}: onnxruntime refuses it: {error}", next_step=_RETRAIN) from error
        problems = _differences(session, n_views, n_numeric)
        if problems:
            raise BundleRefused(f"opening {path}: {some(problems)}", next_step=_RETRAIN)
        request = {node.name: _KINDS[node.type] for node in session.get_inputs() if node.name != VIEWS}
        return cls(session, request, n_views, n_numeric)

    def predict(self, request: Mapping[str, npt.NDArray[Any]], views: Floats | None = None) -> Scores:
        """Return probabilities and what they were computed from.

        Parameters
        ----------
        request
            Request columns of shape `(n,)`: int64, or object arrays of str; a text that training never saw is allowed,
            columns that the model does not read are ignored.
        views
            float64 `(n, n_views)`; NaN means that nothing is known. None where the model reads no view.

        Raises
        ------
        KeyError
            If a request column is missing.
        ValueError
            If a shape does not fit.
        TimeoutError
            If the model takes too long (`flightdeck.inference.run_limit`).
        """
        feed = {name: request[name] for name in self.request}
        if self.n_views:
            if views is None or views.ndim != 2 or views.shape[1] != self.n_views:
                shape = None if views is None else views.shape
                raise ValueError(f"views has shape {shape}, the model takes (n, {self.n_views})")
            feed[VIEWS] = views
        n_rows = {len(column) for column in feed.values()}
        if len(n_rows) > 1:
            raise ValueError(f"the columns have {sorted(n_rows)} rows, one number is needed")
        if n_rows == {0}:
            return Scores(np.empty(0), np.empty((0, self.n_numeric), np.float32))
        both, numeric = self._runs.run([PROBABILITIES, NUMERIC], feed)
        return Scores(both[:, 1].astype(np.float64), numeric)


def _differences(session: Any, n_views: int, n_numeric: int) -> list[str]:
    """Name everything in which a session's signature differs from the declaration."""
    found = {node.name: (node.type, list(node.shape)[1:]) for node in session.get_inputs()}
    views = found.pop(VIEWS, None)
    problems = [
        f"input {name!r} is {kind} {['n', *rest]}, a request column is int64 or string of shape (n,)"
        for name, (kind, rest) in found.items()
        if kind not in _KINDS or rest
    ]
    declared = ("tensor(double)", [n_views]) if n_views else None
    if views != declared:
        problems.append(f"input {VIEWS!r} is {views or 'missing'}, declared {declared or 'none'}")
    outputs = {node.name: (node.type, list(node.shape)[1:]) for node in session.get_outputs()}
    for name, width in ((PROBABILITIES, 2), (NUMERIC, n_numeric)):
        if outputs.get(name) != ("tensor(float)", [width]):
            problems.append(f"output {name!r} is {outputs.get(name, 'missing')}, declared float32 (n, {width})")
    return problems
