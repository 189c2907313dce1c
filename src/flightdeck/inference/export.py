"""From a fitted scikit-learn pipeline to ONNX bytes that predict the same, or a refusal. The door to skl2onnx.

What is exported has one string input of shape `(n, 1)` for each categorical column and one float32 input `numeric` of
shape `(n, n_numeric)`; `graph.join_graphs` puts the traced column functions in front. Every export is compared with
the original on real rows before it may be used: a conversion can succeed and still be wrong (measured:
`categorical_features` of HistGradientBoosting is off on 99.99 % of rows).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

from flightdeck.core.errors import ContractViolation, some
from flightdeck.inference.graph import model_part
from flightdeck.inference.onnx_model import NUMERIC, PROBABILITIES, VIEWS, Scores

OPSET = {"": 21, "ai.onnx.ml": 3}  # that of the traced column functions
BLOCK_ROWS = 50_000


def export_onnx(pipeline: Any, *, categorical: Sequence[str], n_numeric: int, name: str) -> bytes:
    """Return a fitted classifier pipeline as ONNX bytes; the same pipeline gives the same bytes.

    Parameters
    ----------
    pipeline
        Fitted scikit-learn pipeline over the columns `categorical`, then `n_numeric` float32 columns.
    categorical
        Names of the string inputs, in order.
    n_numeric
        Width of the input `numeric`.
    name
        Name of the graph.
    """
    inputs = [(column, StringTensorType([None, 1])) for column in categorical]
    inputs.append((NUMERIC, FloatTensorType([None, n_numeric])))
    model = convert_sklearn(
        pipeline, name=name, initial_types=inputs, options={id(pipeline): {"zipmap": False}}, target_opset=OPSET
    )
    # skl2onnx lists the operator sets in the order of a set of strings, which differs from process to process.
    operator_sets = sorted(model.opset_import, key=lambda entry: entry.domain)
    del model.opset_import[:]
    model.opset_import.extend(operator_sets)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def predict_onnx(
    content: bytes,
    request: Mapping[str, npt.NDArray[Any]],
    views: npt.NDArray[np.float64] | None,
    *,
    beside: Path | None = None,
) -> Scores:
    """Return what a joined graph answers, as the served model computes it, in blocks of rows.

    Parameters
    ----------
    content
        ONNX bytes made by `graph.join_graphs`.
    request
        Request columns of shape `(n_rows,)`: int64, or object arrays of str.
    views
        float64 `(n_rows, n_view_columns)`; ignored by a model without views.
    beside
        Folder of the files that tensors lie in; a graph without such tensors needs none.
    """
    session = _open(content, beside)
    asked = [entry.name for entry in session.get_inputs()]
    columns = {name: views if name == VIEWS else request[name] for name in asked}
    n_rows = len(next(iter(request.values())))
    parts = []
    for start in range(0, n_rows, BLOCK_ROWS):
        feed = {name: values[start : start + BLOCK_ROWS] for name, values in columns.items() if values is not None}
        parts.append(session.run([PROBABILITIES, NUMERIC], feed))
    if not parts:
        return Scores(np.empty(0), np.empty((0, session.get_outputs()[1].shape[1]), np.float32))
    both, numeric = (np.concatenate(answers) for answers in zip(*parts, strict=True))
    return Scores(both[:, 1].astype(np.float64), numeric)


def predict_numeric(
    content: bytes,
    texts: Mapping[str, npt.NDArray[Any]],
    numeric: npt.NDArray[np.float32],
    *,
    beside: Path | None = None,
) -> npt.NDArray[np.float64]:
    """Return the probability of the positive class `(n_rows,)` of the model inside a joined graph, features given.

    Parameters
    ----------
    content
        ONNX bytes made by `graph.join_graphs`.
    texts
        Every categorical column, object arrays of str `(n_rows,)`.
    numeric
        The model's numeric features, float32 `(n_rows, n_numeric)`.
    beside
        Folder of the files that tensors lie in; a graph without such tensors needs none.
    """
    session = _open(model_part(content, categorical=list(texts)), beside)
    feed = {NUMERIC: numeric, **{name: column.reshape(-1, 1) for name, column in texts.items()}}
    return np.asarray(session.run([PROBABILITIES], feed)[0][:, 1], dtype=np.float64)


def refuse_different_features(
    name: str,
    columns: Sequence[str],
    original: npt.NDArray[np.float32],
    traced: npt.NDArray[np.float32],
    limit: float = 1e-6,
) -> int:
    """Return how many values of two matrices `(n_rows, n_columns)` are not the same bits; two missing ones are.

    Parameters
    ----------
    name
        What was traced.
    columns
        Names of the columns.
    original
        What the column functions computed with NumPy, in training.
    traced
        What the graph computes from the same rows.
    limit
        Largest difference that is let pass, relative to values above 1.

    Raises
    ------
    ContractViolation
        If a value differs by more than `limit`, or only one side is missing or infinite; the columns are named.
    """
    differs = ~((original == traced) | (np.isnan(original) & np.isnan(traced)))
    rows, places = np.nonzero(differs)
    ours, theirs = original[rows, places].astype(np.float64), traced[rows, places].astype(np.float64)
    with np.errstate(invalid="ignore"):
        too_far = ~(np.abs(ours - theirs) <= limit * np.maximum(1.0, np.minimum(np.abs(ours), np.abs(theirs))))
    if too_far.any():
        named = [columns[place] for place in np.unique(places[too_far])]
        row = int(np.flatnonzero(too_far)[0])
        raise ContractViolation(
            f"tracing {name}: the graph differs from NumPy by more than {limit:g} in {some(named)}, on "
            f"{int(too_far.sum()):,} of {original.size:,} values, such as {theirs[row]:g} instead of {ours[row]:g}",
            next_step="write the column function with other operations; docs/adr/0014 lists those that differ",
        )
    return len(rows)


def refuse_different(
    name: str, original: npt.NDArray[np.float64], exported: npt.NDArray[np.float64], limit: float
) -> float:
    """Return the largest absolute difference of two predictions, shapes `(n_rows,)`.

    Raises
    ------
    ContractViolation
        If it exceeds `limit` or is not a number.
    """
    difference = float(np.abs(original - exported).max()) if len(original) else 0.0
    if not difference <= limit:
        n_off = int((~(np.abs(original - exported) <= limit)).sum())
        raise ContractViolation(
            f"exporting {name}: ONNX differs from scikit-learn by more than {limit:g} on {n_off:,} of "
            f"{len(original):,} rows, by up to {difference:.3g}",
            next_step="train on float32 columns and without categorical_features; see docs/runbooks/training.md",
        )
    return difference


def _open(content: bytes, beside: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a graph on one thread, as the server does: on more, the trees of a row are summed in another order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if beside is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(beside))
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
