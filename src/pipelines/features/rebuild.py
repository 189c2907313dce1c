"""Time travel: the training set of a recorded run, made again from the recorded versions of the log.

A training set is a function of the streams' versions, the declarations, the column functions and the settings. A
bundle's `training.json` records them and the digest of what came out; its `features.json` holds the declarations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from flightdeck.core.errors import ConfigError, ContractViolation, NotFoundError, some
from flightdeck.core.identifiers import digest_bytes, digest_json, fingerprint
from flightdeck.events.datasets import EventStreamDataset
from flightdeck.events.log import EventLog
from flightdeck.features.view import FeatureView
from pipelines.features import training_frame
from pipelines.features.model_input import COLUMN_FUNCTIONS
from pipelines.features.views import VIEWS

RECORDED = ("data_versions", "views", "nodes", "training_set")


@dataclass(frozen=True)
class Rebuilt:
    """A training set made again.

    Parameters
    ----------
    training_set
        The rows, in the recorded order.
    digest
        Digest of what was made.
    recorded_digest
        Digest that the record names.
    """

    training_set: pd.DataFrame
    digest: str
    recorded_digest: str

    @property
    def is_identical(self) -> bool:
        """Whether every byte is the same."""
        return self.digest == self.recorded_digest


def describe_training_set(training_set: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of a training set: its digest, its size and the settings that made it."""
    return {"digest": digest_frame(training_set), "n_rows": len(training_set), "settings": dict(settings)}


def digest_frame(frame: pd.DataFrame) -> str:
    """Return a digest of names, types, order and every value of a frame's columns; one NaN is like another.

    It does not depend on how a file format or a library's version would write them.
    """
    columns = []
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype == object:
            content = digest_json(values.tolist())
        else:
            content = digest_bytes(np.where(values == values, values, values.dtype.type(0)).tobytes())
            content += digest_bytes(np.packbits(values != values).tobytes())
        columns.append([str(name), str(values.dtype), content])
    return digest_json([len(frame), columns])


def rebuild_training_set(log: EventLog, recorded: Mapping[str, Any], features: Mapping[str, Any]) -> Rebuilt:
    """Make the training set of a recorded run again.

    Parameters
    ----------
    log
        Event log; later versions of its streams change nothing.
    recorded
        Content of the bundle's `training.json`.
    features
        Content of the bundle's `features.json`: the views as they were declared, and the order of the features. Views
        and column functions that were added since change nothing.

    Raises
    ------
    ConfigError
        If the record lacks something, or the code gives its declarations or column functions another meaning: the
        commit is named.
    ContractViolation
        If a stream's version holds other events than the recorded ones.
    NotFoundError
        If the log does not hold a version any more.
    """
    views = recorded_views(recorded, features)
    events = recorded_events(log, recorded, views)
    frame = training_frame.build_entity_frame(
        events["scheduled"], events["arrived"], recorded["training_set"]["settings"]
    )
    windowed, computed = rebuild_columns(frame, events, recorded, views)
    training_set = training_frame.assemble_columns(frame, windowed, computed, features["numeric"])
    return Rebuilt(training_set, digest_frame(training_set), recorded["training_set"]["digest"])


def recorded_views(recorded: Mapping[str, Any], features: Mapping[str, Any]) -> tuple[FeatureView, ...]:
    """Return the views as a bundle declares them, where this code still gives them the same meaning.

    Parameters and errors as of `rebuild_training_set`.
    """
    _require_record(recorded)
    views = _views_of(features, recorded["views"])
    _require_same_code(recorded, views)
    return views


def recorded_events(log: EventLog, recorded: Mapping[str, Any], views: Sequence[FeatureView]) -> dict[str, pa.Table]:
    """Return the streams that a training set was built from, each at its recorded version.

    Raises
    ------
    ContractViolation, NotFoundError
        As `rebuild_training_set` says.
    """
    names = dict.fromkeys(["scheduled", "arrived", *(source for view in views for source in view.sources)])
    return {name: _load(log, name, recorded["data_versions"]) for name in names}


def rebuild_columns(
    frame: pd.DataFrame, events: Mapping[str, pa.Table], recorded: Mapping[str, Any], views: Sequence[FeatureView]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the windowed features of each row of a frame, and the columns that the column functions make of them.

    Parameters
    ----------
    frame
        Request columns, such as `training_frame.build_entity_frame` returns.
    events
        Streams, each marked with its name and version (`recorded_events`).
    recorded
        Content of the bundle's `training.json`.
    views
        Declarations.
    """
    settings = {**recorded["training_set"]["settings"], "engine": "numpy"}
    windowed = training_frame.join_windowed_features(frame, settings, *events.values(), views=views)
    computed: dict[str, Any] = {}
    for declared in COLUMN_FUNCTIONS:
        if declared.name in recorded["nodes"]:
            made = declared.function(*(_column(name, computed, windowed, frame) for name in declared.inputs))
            computed.update(zip((output.name for output in declared.outputs), made, strict=True))
    return windowed, computed


def _column(name: str, computed: Mapping[str, Any], windowed: pd.DataFrame, frame: pd.DataFrame) -> Any:
    return computed[name] if name in computed else (windowed if name in windowed else frame)[name].to_numpy()


def _require_record(recorded: Mapping[str, Any]) -> None:
    """Refuse a record that does not say enough."""
    missing = [name for name in RECORDED if name not in recorded]
    if missing:
        raise ConfigError(
            f"rebuilding a training set: the record says nothing of {some(missing)}",
            next_step="rebuild a bundle that was made since training.json records its training set",
        )


def _views_of(features: Mapping[str, Any], recorded: Mapping[str, str]) -> tuple[FeatureView, ...]:
    """Return the views as a bundle declares them; those of the code in bundles from before that."""
    if features.get("declarations"):
        return tuple(FeatureView.from_json(declared) for declared in features["declarations"])
    return tuple(view for view in VIEWS if view.name in recorded)


def _require_same_code(recorded: Mapping[str, Any], views: Sequence[FeatureView]) -> None:
    """Refuse a record to whose views or column functions this code gives another meaning."""
    now = {
        "view": {view.name: view.digest for view in views},
        "column function": {declared.name: fingerprint(declared.function) for declared in COLUMN_FUNCTIONS},
    }
    then = {"view": recorded["views"], "column function": recorded["nodes"]}
    moved = [f"{kind} {name}" for kind in now for name in sorted(then[kind]) if now[kind].get(name) != then[kind][name]]
    if moved:
        commit = str(recorded.get("git_commit", "unversioned"))
        raise ConfigError(
            f"rebuilding a training set: {len(moved)} declarations have moved since: {some(moved)}",
            next_step=f"rebuild it with the code that made it, commit {commit}",
        )


def _load(log: EventLog, stream: str, recorded: Mapping[str, Any]) -> pa.Table:
    """Return a stream at its recorded version, after comparing the digest of its history."""
    if stream not in recorded:
        raise NotFoundError(f"rebuilding a training set: the record names no version of stream {stream}")
    expected = recorded[stream]
    found = log.version(stream, int(expected["version"]))
    if found.digest != expected["digest"]:
        raise ContractViolation(
            f"rebuilding a training set: version {found.version} of stream {stream} is {found.digest[:16]}, the record "
            f"says {expected['digest'][:16]}: this is another log",
            next_step="restore the log that the run has read",
        )
    return EventStreamDataset(filepath=str(log.root), stream=stream, version=found.version).load()
