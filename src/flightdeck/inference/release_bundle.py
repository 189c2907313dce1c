"""A verified bundle made ready to answer: sessions open, feature order known, running code compared with it.

A bundle carries the declarations of its feature views and says which column functions its model was trained with. A
declaration is data: the store is read by it, whatever the running code declares today. A column function is code: where
the running one differs, the same request would mean something else to the model than what it learnt, so the bundle is
refused instead of served (ADR 0006).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import BundleRefused, ConfigError, some
from flightdeck.features.view import FeatureView
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.inference.onnx_model import OnnxModel
from flightdeck.inference.plan import Plan, PlanNode, compile_plan
from flightdeck.inference.surfaces import Surfaces, read_surfaces

Columns = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]
ScoreRules = Callable[[Mapping[str, Any], Columns], Floats]
_RETRAIN = "train and release with this code: kedro run --config kedro.yml, or check out the code it was sealed with"


class FeatureList(msgspec.Struct, frozen=True):
    """`features.json`: what the models read, in which order, and the code that it was computed with.

    Parameters
    ----------
    categorical
        Names of the string inputs.
    numeric
        Names of the model's numeric features in order.
    fallback_numeric
        Names of the fallback model's, none of which needs the online store.
    views
        Digest of each feature view by name.
    nodes
        Fingerprint of each column function by name.
    categories
        Values that training saw, by categorical name; empty where not recorded.
    declarations
        Each feature view as `FeatureView.as_json` describes it; empty in a bundle from before they were kept.
    """

    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    fallback_numeric: tuple[str, ...]
    views: dict[str, str]
    nodes: dict[str, str]
    categories: dict[str, frozenset[str]] = {}
    declarations: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class RunningCode:
    """What this process would compute features with.

    Parameters
    ----------
    nodes
        Pipeline nodes of the column functions.
    fingerprints
        Fingerprint of each column function by name.
    views
        Feature views that it declares: what a bundle without declarations of its own must have been trained with.
    request_columns
        Columns that a request gives.
    score_rules
        Rule baseline: takes `rules.json` and request columns, returns float64 of shape `(n_rows,)`.
    surfaces
        Surfaces that requests may name; a bundle needs thresholds for each.
    """

    nodes: tuple[PlanNode, ...]
    fingerprints: Mapping[str, str]
    views: tuple[FeatureView, ...]
    request_columns: tuple[str, ...]
    score_rules: ScoreRules
    surfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedRelease:
    """One release, ready to answer; immutable and thread-safe.

    Parameters
    ----------
    version
        Model version in the registry.
    bundle
        The verified bundle.
    features
        Parsed `features.json`.
    surfaces
        Decision thresholds.
    model, fallback
        Open models.
    model_plan, fallback_plan
        Compute the numeric features that neither request nor store gives.
    rules
        Parsed `rules.json`.
    code
        The running code that it was compared with.
    feature_views
        The views that its model reads, as they were declared when it was trained.
    """

    version: int
    bundle: Bundle
    features: FeatureList
    surfaces: Surfaces
    model: OnnxModel
    fallback: OnnxModel
    model_plan: Plan
    fallback_plan: Plan
    rules: Mapping[str, Any]
    code: RunningCode
    feature_views: tuple[FeatureView, ...]

    @property
    def digest(self) -> str:
        """Digest of the bundle, 64 hexadecimal characters."""
        return self.bundle.digest

    def model_features(self, columns: Columns) -> Floats:
        """Return the model's numeric features from request and store columns, float64 `(n_rows, n_numeric)`."""
        return _matrix(self.features.numeric, columns, self.model_plan)

    def score_model(self, columns: Columns, numeric: Floats) -> Floats:
        """Return the model's probabilities, float64 `(n_rows,)`, for what `model_features` returned."""
        return self.model.predict(self._strings(columns), numeric.astype(np.float32))

    def score_fallback(self, columns: Columns) -> Floats:
        """Return the fallback model's probabilities from request columns alone, float64 `(n_rows,)`."""
        numeric = _matrix(self.features.fallback_numeric, columns, self.fallback_plan)
        return self.fallback.predict(self._strings(columns), numeric.astype(np.float32))

    def score_rules(self, columns: Columns) -> Floats:
        """Return the rule baseline from request columns alone, float64 `(n_rows,)`."""
        return self.code.score_rules(self.rules, columns)

    def unseen_categories(self, columns: Columns) -> list[tuple[str, ...]]:
        """Name for each row the categorical columns whose value training never saw."""
        known = [(name, self.features.categories[name]) for name in self.features.categories]
        n_rows = len(next(iter(columns.values())))
        return [tuple(name for name, values in known if columns[name][row] not in values) for row in range(n_rows)]

    def _strings(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        return {name: columns[name] for name in self.features.categorical}


def load_release(path: Path, *, digest: str, version: int, code: RunningCode) -> LoadedRelease:
    """Verify the bundle at `path`, open it and let each of its three ways to answer answer once.

    Cost: reads every file once and opens two models; call it outside the event loop.

    Raises
    ------
    NotFoundError
        If there is no bundle.
    BundleRefused
        If its content differs from `digest`, it was sealed for other code, or it cannot answer.
    """
    try:
        bundle = open_bundle(path, expected_digest=digest)
        features = _read_features(bundle)
        _compare_code(bundle, features, code)
        release = _open(bundle, features, version, code, declared_views(features, code.views))
    except (OSError, ConfigError, msgspec.DecodeError) as error:
        message = error.message if isinstance(error, ConfigError) else str(error)
        raise BundleRefused(f"opening bundle {path}: {message}", next_step=_RETRAIN) from error
    _rehearse(release)
    return release


def _read_features(bundle: Bundle) -> FeatureList:
    return msgspec.json.decode((bundle.path / "features.json").read_bytes(), type=FeatureList)


def declared_views(features: FeatureList, running: Sequence[FeatureView]) -> tuple[FeatureView, ...]:
    """Return the views that a bundle's model reads: those that it declares, else the running ones of its names.

    Raises
    ------
    ConfigError
        If a declaration cannot be read, or means something else to this code than what was sealed.
    """
    if features.declarations:
        views = tuple(FeatureView.from_json(declared) for declared in features.declarations)
    else:
        views = tuple(view for view in running if view.name in features.views)
    digests = {view.name: view.digest for view in views}
    differing = sorted(name for name in features.views | digests if features.views.get(name) != digests.get(name))
    if differing:
        raise ConfigError(
            f"the code has changed since it was sealed: feature view {some(differing)} means something else now"
        )
    return views


def _compare_code(bundle: Bundle, features: FeatureList, code: RunningCode) -> None:
    """Refuse a bundle whose column functions are not the running ones, naming all that differ."""
    differing = [
        f"node {name} ({'is gone' if name not in code.fingerprints else 'changed'})"
        for name in sorted(features.nodes)
        if code.fingerprints.get(name) != features.nodes[name]
    ]
    if differing:
        raise BundleRefused(
            f"opening bundle {bundle.path}: the code has changed since it was sealed: {some(differing)}",
            next_step=_RETRAIN,
        )


def _open(
    bundle: Bundle, features: FeatureList, version: int, code: RunningCode, views: tuple[FeatureView, ...]
) -> LoadedRelease:
    at_hand = (*code.request_columns, *(column for view in views for column in view.columns))
    computed = [name for name in features.numeric if name not in at_hand]
    fallback_computed = [name for name in features.fallback_numeric if name not in code.request_columns]
    surfaces = read_surfaces(bundle.read_json("surfaces.json"), where=f"{bundle.path}/surfaces.json")
    without = [name for name in code.surfaces if name not in surfaces.by_name]
    if without:
        raise BundleRefused(
            f"opening bundle {bundle.path}: surfaces.json has no thresholds for {some(without)}", next_step=_RETRAIN
        )
    models = {
        name: OnnxModel.open(bundle.path / f"{name}.onnx", categorical=features.categorical, n_numeric=len(numeric))
        for name, numeric in (("model", features.numeric), ("fallback", features.fallback_numeric))
    }
    return LoadedRelease(
        version=version,
        bundle=bundle,
        features=features,
        surfaces=surfaces,
        model=models["model"],
        fallback=models["fallback"],
        model_plan=compile_plan(code.nodes, at_hand, computed),
        fallback_plan=compile_plan(code.nodes, code.request_columns, fallback_computed),
        rules=bundle.read_json("rules.json"),
        code=code,
        feature_views=views,
    )


def _rehearse(release: LoadedRelease) -> None:
    """Let model, fallback and rules answer one row of unknowns: a bundle that cannot is refused before it serves."""
    columns: dict[str, npt.NDArray[Any]] = {name: np.zeros(1, dtype=np.int64) for name in release.code.request_columns}
    columns |= {column: np.full(1, np.nan) for view in release.feature_views for column in view.columns}
    columns |= {name: np.array(["?"], dtype=object) for name in release.features.categorical}
    ways: dict[str, Callable[[], Floats]] = {
        "model.onnx": lambda: release.score_model(columns, release.model_features(columns)),
        "fallback.onnx": lambda: release.score_fallback(columns),
        "rules.json": lambda: release.score_rules(columns),
    }
    for name, answer in ways.items():
        try:
            value = np.asarray(answer(), dtype=np.float64)
        except Exception as error:
            raise BundleRefused(
                f"opening bundle {release.bundle.path}: {name} raised on a row of unknown values: {error!r}",
                next_step=_RETRAIN,
            ) from error
        if value.shape != (1,) or not 0.0 <= float(value[0]) <= 1.0:
            raise BundleRefused(
                f"opening bundle {release.bundle.path}: {name} answers {value.tolist()} to a row of unknown values, "
                "a probability is needed",
                next_step=_RETRAIN,
            )


def _matrix(names: tuple[str, ...], columns: Columns, plan: Plan) -> Floats:
    computed = plan(columns)
    picked = [computed[name] if name in computed else columns[name] for name in names]
    return np.stack([np.asarray(column, dtype=np.float64) for column in picked], axis=1)
