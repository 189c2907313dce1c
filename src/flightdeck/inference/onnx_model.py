"""The one door to onnxruntime: a model opened from a file of a verified bundle.

A session is made from a path, never from bytes: with bytes, external tensor data is looked for in the current working
directory, with a path only beside the file, where every file was compared with the manifest. One thread a call: the
default thread pool loses at every batch size on small machines.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from flightdeck.core.errors import BundleRefused, some

NUMERIC = "numeric"
PROBABILITIES = "probabilities"
_RETRAIN = "train and export again: kedro run --config kedro.yml"
_REFUSALS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


class OnnxModel:
    """A binary classifier with string and float32 inputs; calls are thread-safe.

    Use `OnnxModel.open`.

    Parameters
    ----------
    session
        Open onnxruntime session.
    categorical
        Names of the string inputs, each of shape `(n_rows, 1)`.
    n_numeric
        Number of columns of the input `numeric`.
    """

    def __init__(self, session: Any, categorical: Sequence[str], n_numeric: int) -> None:
        self._session = session
        self.categorical = tuple(categorical)
        self.n_numeric = n_numeric

    @classmethod
    def open(cls, path: Path, *, categorical: Sequence[str], n_numeric: int) -> "OnnxModel":
        """Open the model file at `path` and compare its inputs and output with what the bundle declares.

        Parameters
        ----------
        path
            File inside a verified bundle.
        categorical
            Names of the string inputs.
        n_numeric
            Number of numeric features.

        Raises
        ------
        BundleRefused
            If onnxruntime cannot read the file, or inputs or output differ from the declaration.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _REFUSALS as error:
            raise BundleRefused(f"opening {path}: onnxruntime refuses it: {error}", next_step=_RETRAIN) from error
        problems = _differences(session, categorical, n_numeric)
        if problems:
            raise BundleRefused(f"opening {path}: {some(problems)}", next_step=_RETRAIN)
        return cls(session, categorical, n_numeric)

    def predict(
        self, categorical: Mapping[str, npt.NDArray[Any] | Sequence[str]], numeric: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """Return the probability of the positive class.

        Parameters
        ----------
        categorical
            Strings of shape `(n_rows,)` for each string input; a value that training never saw is allowed.
        numeric
            float32 of shape `(n_rows, n_numeric)`; NaN means missing.

        Returns
        -------
        array
            float64 of shape `(n_rows,)`, in row order, exactly as the model gives it: the caller guards it.

        Raises
        ------
        ValueError
            If the numeric shape or a row count does not fit.
        """
        if numeric.ndim != 2 or numeric.shape[1] != self.n_numeric:
            raise ValueError(f"numeric has shape {numeric.shape}, the model takes (n_rows, {self.n_numeric})")
        feed: dict[str, npt.NDArray[Any]] = {NUMERIC: numeric.astype(np.float32, copy=False)}
        for name in self.categorical:
            column = np.asarray(categorical[name], dtype=object).reshape(-1, 1)
            if len(column) != len(numeric):
                raise ValueError(f"{name} has {len(column)} rows, numeric has {len(numeric)}")
            feed[name] = column
        if not len(numeric):
            return np.empty(0, dtype=np.float64)
        both = self._session.run([PROBABILITIES], feed)[0]
        return np.asarray(both[:, 1], dtype=np.float64)


def _differences(session: Any, categorical: Sequence[str], n_numeric: int) -> list[str]:
    """Name everything in which a session's signature differs from the declaration."""
    found = {node.name: (node.type, list(node.shape)[1:]) for node in session.get_inputs()}
    declared = {**{name: ("tensor(string)", [1]) for name in categorical}, NUMERIC: ("tensor(float)", [n_numeric])}
    problems = [f"input {name!r} is missing" for name in declared if name not in found]
    problems += [f"input {name!r} is not declared" for name in found if name not in declared]
    problems += [
        f"input {name!r} is {found[name]}, declared {declared[name]}"
        for name in declared
        if name in found and found[name] != declared[name]
    ]
    outputs = {node.name: node.type for node in session.get_outputs()}
    if outputs.get(PROBABILITIES) != "tensor(float)":
        problems.append(f"no output {PROBABILITIES!r} of float32, outputs are {outputs}")
    return problems
