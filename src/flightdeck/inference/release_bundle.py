"""A verified bundle made ready to answer: sessions open, views known, rules read.

A bundle is data: its graphs hold the column functions that its models were trained with, its declarations say what to
read from the online store, its rules say how they are looked up. What the running code computes features with does not
matter to it (ADR 0014); a server brings the columns of a request and the surfaces that requests may name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import BundleRefused, ConfigError, some
from flightdeck.core.memory import available_bytes
from flightdeck.features.view import FeatureView
from flightdeck.inference.bundle import Bundle, open_bundle, read_manifest, require_format
from flightdeck.inference.bundle_memory import room_for
from flightdeck.inference.onnx_model import INT64, Floats, OnnxModel, Scores
from flightdeck.inference.rules import Rules, read_rules
from flightdeck.inference.surfaces import Surfaces, read_surfaces

Columns = Mapping[str, npt.NDArray[Any]]
_RETRAIN = "train and release again: kedro run --config kedro.yml"


class FeatureList(msgspec.Struct, frozen=True):
    """`features.json`: what the models read, in which order.

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
    declarations
        Each feature view as `FeatureView.as_json` describes it.
    view_columns
        Columns of all views in the order of their declaration: the columns of the model's input `views`.
    categories
        Values that training saw, by categorical name; empty where not recorded.
    """

    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    fallback_numeric: tuple[str, ...]
    views: dict[str, str]
    declarations: tuple[dict[str, Any], ...]
    view_columns: tuple[str, ...]
    categories: dict[str, frozenset[str]] = {}


@dataclass(frozen=True)
class RunningCode:
    """What a server brings to a bundle.

    Parameters
    ----------
    request_columns
        Kind (`int64` or `string`) of each column that a request gives.
    surfaces
        Surfaces that requests may name; a bundle needs thresholds for each.
    """

    request_columns: Mapping[str, str]
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
    surfaces
        Decision thresholds.
    feature_views
        The views that its model reads, as they were declared when it was trained.
    categorical
        Names of the request columns that are categories.
    numeric, fallback_numeric
        Names of the columns of `Scores.numeric` of the model and of the fallback model.
    request_inputs
        Names of the request columns that it needs: for its graphs, its rules and the keys of its views.
    """

    version: int
    bundle: Bundle
    surfaces: Surfaces
    feature_views: tuple[FeatureView, ...]
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    fallback_numeric: tuple[str, ...]
    request_inputs: tuple[str, ...]
    _model: OnnxModel = field(repr=False)
    _fallback: OnnxModel = field(repr=False)
    _rules: Rules = field(repr=False)
    _categories: Mapping[str, frozenset[str]] = field(repr=False)

    @property
    def digest(self) -> str:
        """Digest of the bundle, 64 hexadecimal characters."""
        return self.bundle.digest

    @cached_property
    def view_versions(self) -> str:
        """Name and digest of each view, in order: releases for which they are equal share one read of the store."""
        return " ".join(f"{view.name}@{view.digest}" for view in self.feature_views)

    def score_model(self, request: Columns, views: Floats) -> Scores:
        """Return the model's answers.

        Parameters
        ----------
        request
            Request columns of shape `(n,)`: int64, or object arrays of str.
        views
            Columns of `feature_views` in the order of their declaration, float64 `(n, n_view_columns)`.
        """
        return self._model.predict(request, views)

    def score_fallback(self, request: Columns) -> Scores:
        """Return the fallback model's answers from request columns alone."""
        return self._fallback.predict(request)

    def score_rules(self, request: Columns) -> Floats:
        """Return the rule baseline from request columns alone, float64 `(n,)`; no model runtime is asked."""
        return self._rules.score(request)

    def unseen_categories(self, request: Columns) -> list[tuple[str, ...]]:
        """Name for each row the categorical columns whose value training never saw."""
        known = tuple(self._categories.items())
        n_rows = len(next(iter(request.values())))
        if all(values.issuperset(request[name].tolist()) for name, values in known):
            return [()] * n_rows
        return [tuple(name for name, values in known if request[name][row] not in values) for row in range(n_rows)]


def load_release(
    path: Path,
    *,
    digest: str,
    version: int,
    code: RunningCode,
    available: Callable[[], int | None] = available_bytes,
) -> LoadedRelease:
    """Verify the bundle at `path`, open it and let each of its three ways to answer answer once.

    Cost: reads every file once and opens two models; call it outside the event loop. Whether there is memory for it is
    asked first, of `available`, and big bundles of a machine are opened one after the other.

    Raises
    ------
    NotFoundError
        If there is no bundle.
    BundleTooLarge
        If it does not fit into memory; no file but the manifest has been read then.
    BundleRefused
        If its content differs from `digest`, it is of another format, it needs what this server does not give, or it
        cannot answer.
    """
    with room_for(path, read_manifest(path, expected_digest=digest), available):
        try:
            bundle = open_bundle(path, expected_digest=digest)
        except OSError as error:
            raise BundleRefused(f"opening bundle {path}: {error}", next_step=_RETRAIN) from error
        return open_release(bundle, version=version, code=code)


def open_release(bundle: Bundle, *, version: int, code: RunningCode) -> LoadedRelease:
    """Open a verified bundle and let each of its three ways to answer answer once.

    Raises
    ------
    BundleRefused
        If it is of another format, needs what this code does not give, or cannot answer.
    """
    try:
        require_format(bundle)
        release = _open(bundle, version, code)
    except (OSError, ConfigError, msgspec.DecodeError) as error:
        message = error.message if isinstance(error, ConfigError) else str(error)
        raise BundleRefused(f"opening bundle {bundle.path}: {message}", next_step=_RETRAIN) from error
    _rehearse(release, code)
    return release


def read_features(folder: Path) -> FeatureList:
    """Return the parsed `features.json` of a bundle or draft.

    Raises
    ------
    OSError, msgspec.DecodeError
        If it is missing or breaks its form.
    """
    return msgspec.json.decode((folder / "features.json").read_bytes(), type=FeatureList)


def declared_views(features: FeatureList) -> tuple[FeatureView, ...]:
    """Return the views that a bundle's model reads.

    Raises
    ------
    ConfigError
        If a declaration cannot be read, means something else to this code than what was sealed, or its columns are not
        those of the model's input.
    """
    views = tuple(FeatureView.from_json(declared) for declared in features.declarations)
    digests = {view.name: view.digest for view in views}
    differing = sorted(name for name in features.views | digests if features.views.get(name) != digests.get(name))
    if differing:
        raise ConfigError(f"feature view {some(differing)} means something else to this code than what was sealed")
    columns = tuple(column for view in views for column in view.columns)
    if columns != features.view_columns:
        odd = sorted(set(columns) ^ set(features.view_columns))
        raise ConfigError(f"view_columns are not those of the declared views: {some(odd) or 'another order'}")
    return views


def _open(bundle: Bundle, version: int, code: RunningCode) -> LoadedRelease:
    features = read_features(bundle.path)
    views = declared_views(features)
    surfaces = read_surfaces(bundle.read_json("surfaces.json"), where=f"{bundle.path}/surfaces.json")
    without = [name for name in code.surfaces if name not in surfaces.by_name]
    if without:
        raise ConfigError(f"surfaces.json has no thresholds for {some(without)}")
    n_views = len(features.view_columns)
    model = OnnxModel.open(bundle.path / "model.onnx", n_views=n_views, n_numeric=len(features.numeric))
    fallback = OnnxModel.open(bundle.path / "fallback.onnx", n_views=0, n_numeric=len(features.fallback_numeric))
    rules = read_rules((bundle.path / "rules.json").read_bytes())
    entities = [name for view in views for name in view.entity]
    needed = dict.fromkeys((*model.request, *fallback.request, *features.categories, *rules.columns, *entities))
    _require_columns(bundle, tuple(needed), {**model.request, **fallback.request}, code)
    return LoadedRelease(
        version=version,
        bundle=bundle,
        surfaces=surfaces,
        feature_views=views,
        categorical=features.categorical,
        numeric=features.numeric,
        fallback_numeric=features.fallback_numeric,
        request_inputs=tuple(needed),
        _model=model,
        _fallback=fallback,
        _rules=rules,
        _categories=features.categories,
    )


def _require_columns(bundle: Bundle, needed: tuple[str, ...], kinds: Mapping[str, str], code: RunningCode) -> None:
    """Refuse a bundle that reads a column which requests do not have here, naming all of them."""
    given = code.request_columns
    lacking = [
        name if name not in given else f"{name} as {kinds[name]}" for name in needed if _lacks(given, kinds, name)
    ]
    if lacking:
        raise BundleRefused(
            f"opening bundle {bundle.path}: it needs the request column {some(lacking)}, which this server does not "
            f"give; it gives {some(given, len(given))}",
            next_step="deploy a server that gives it, or return to a release that does without: kedro release rollback",
        )


def _lacks(given: Mapping[str, str], kinds: Mapping[str, str], name: str) -> bool:
    return name not in given or kinds.get(name, given[name]) != given[name]


def _rehearse(release: LoadedRelease, code: RunningCode) -> None:
    """Let model, fallback and rules answer one row of unknowns: a bundle that cannot is refused before it serves."""
    request = {name: _unknown(code.request_columns[name]) for name in release.request_inputs}
    n_views = sum(len(view.columns) for view in release.feature_views)
    ways: dict[str, Callable[[], Floats]] = {
        "model.onnx": lambda: release.score_model(request, np.full((1, n_views), np.nan)).probability,
        "fallback.onnx": lambda: release.score_fallback(request).probability,
        "rules.json": lambda: release.score_rules(request),
    }
    for name, answer in ways.items():
        try:
            value = answer()
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


def _unknown(kind: str) -> npt.NDArray[Any]:
    return np.zeros(1, dtype=np.int64) if kind == INT64 else np.array(["?"], dtype=object)
