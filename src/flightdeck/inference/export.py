"""From a fitted scikit-learn pipeline to ONNX bytes that predict the same, or a refusal. The door to skl2onnx.

A served model has one string input of shape `(n, 1)` for each categorical column and one float32 input `numeric` of
shape `(n, n_numeric)`. Every export is compared with the original on real rows before it may be used: a conversion can
succeed and still be wrong (measured: `categorical_features` of HistGradientBoosting is off on 99.99 % of rows).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

from flightdeck.core.errors import ContractViolation

OPSET = 17
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
    inputs.append(("numeric", FloatTensorType([None, n_numeric])))
    model = convert_sklearn(
        pipeline, name=name, initial_types=inputs, options={id(pipeline): {"zipmap": False}}, target_opset=OPSET
    )
    # skl2onnx lists the operator sets in the order of a set of strings, which differs from process to process.
    operator_sets = sorted(model.opset_import, key=lambda entry: entry.domain)
    del model.opset_import[:]
    model.opset_import.extend(operator_sets)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def predict_onnx(content: bytes, features: pd.DataFrame, *, categorical: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the probability of the positive class for each row, shape `(n_rows,)`, as the served model computes it.

    Parameters
    ----------
    content
        ONNX bytes made by `export_onnx`.
    features
        Columns `categorical`, then the numeric ones in model order.
    categorical
        Names of the string columns.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    numeric = features.drop(columns=list(categorical)).to_numpy(np.float32)
    texts = {column: features[column].to_numpy(object).reshape(-1, 1) for column in categorical}
    parts = []
    for start in range(0, len(features), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        feed = {"numeric": numeric[rows], **{column: values[rows] for column, values in texts.items()}}
        parts.append(np.asarray(session.run(["probabilities"], feed)[0], dtype=np.float64)[:, 1])
    return np.concatenate(parts) if parts else np.empty(0)


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
