"""The models that have answered: found in the ledger, opened from their sealed bundles when they are asked."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import Clock
from flightdeck.core.errors import BundleRefused, ConfigError, NotFoundError
from flightdeck.inference.bundle import open_bundle, require_format
from flightdeck.inference.onnx_model import OnnxModel
from flightdeck.inference.release_bundle import FeatureList, declared_views, read_features
from flightdeck.monitoring.skew import Columns, ServedModel
from flightdeck.release.ledger_config import ledger_at
from flightdeck.release.state import fold

logger = logging.getLogger(__name__)


def read_served_models(ledger_path: Path, bundles: Path, clock: Clock) -> dict[str, ServedModel]:
    """Return the model of every released bundle that is still there, sound and readable, by bundle digest.

    A bundle that cannot be opened is named in the log: answers of its version are not audited. Cost: reads every
    bundle once; a model is opened when it is first asked.
    """
    found: dict[str, ServedModel] = {}
    for version in fold(ledger_at(ledger_path, clock).records()).versions.values():
        path = bundles / version.digest[:16]
        if not path.is_dir():
            continue
        try:
            require_format(open_bundle(path, expected_digest=version.digest))
            features = read_features(path)
            views = declared_views(features)
        except (BundleRefused, NotFoundError, ConfigError, msgspec.DecodeError) as error:
            logger.warning("answers of version %d are not audited: %s", version.version, error)
            continue
        found[version.digest] = ServedModel(features.numeric, views, _Reader(path / "model.onnx", features))
    return found


class _Reader:
    """A model's graph as a function, opened once."""

    def __init__(self, path: Path, features: FeatureList) -> None:
        self._open = cache(
            lambda: OnnxModel.open(path, n_views=len(features.view_columns), n_numeric=len(features.numeric))
        )

    def __call__(self, request: Columns, views: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        columns: dict[str, npt.NDArray[Any]] = dict(request)
        return self._open().predict(columns, views).numeric
