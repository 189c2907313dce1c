"""Time travel: the training set of a recorded run, made again from the recorded versions of the log.

A training set is a function of the streams' versions, the declarations, the column functions and the settings. A
bundle's `training.json` records all of them and the digest of what came out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.core.errors import ConfigError, ContractViolation, NotFoundError, some
from flightdeck.core.identifiers import digest_bytes, digest_json, fingerprint
from flightdeck.events.datasets import EventStreamDataset
from flightdeck.events.log import EventLog
from pipelines.features import training_frame
from pipelines.features.model_input import COLUMN_FUNCTIONS, COMPUTED
from pipelines.features.pipeline import STREAMS
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


def rebuild_training_set(log: EventLog, recorded: Mapping[str, Any]) -> Rebuilt:
    """Make the training set of a recorded run again.

    Parameters
    ----------
    log
        Event log; later versions of its streams change nothing.
    recorded
        Content of the bundle's `training.json`.

    Raises
    ------
    ConfigError
        If the record lacks something, or declarations or column functions have moved since: the commit is named.
    ContractViolation
        If a stream's version holds other events than the recorded ones.
    NotFoundError
        If the log does not hold a version any more.
    """
    _require_same_code(recorded)
    streams = [_load(log, name, recorded["data_versions"]) for name in STREAMS]
    events = dict(zip(STREAMS, streams, strict=True))
    settings = recorded["training_set"]["settings"]
    frame = training_frame.build_entity_frame(events["scheduled"], events["arrived"], settings)
    windowed = training_frame.join_windowed_features(frame, {**settings, "engine": "numpy"}, *streams)
    values = training_frame.split_columns(frame, windowed)
    columns = dict(zip(training_frame.COLUMN_INPUTS, values, strict=True))
    for declared in COLUMN_FUNCTIONS:
        made = declared.function(*(columns[name] for name in declared.inputs))
        columns.update(zip((output.name for output in declared.outputs), made, strict=True))
    training_set = training_frame.assemble(frame, windowed, *(columns[name] for name in COMPUTED))
    return Rebuilt(training_set, digest_frame(training_set), recorded["training_set"]["digest"])


def _require_same_code(recorded: Mapping[str, Any]) -> None:
    """Refuse a record that does not say enough, or one that other code made."""
    missing = [name for name in RECORDED if name not in recorded]
    if missing:
        raise ConfigError(
            f"rebuilding a training set: the record says nothing of {some(missing)}",
            next_step="rebuild a bundle that was made since training.json records its training set",
        )
    now = {
        "view": {view.name: view.digest for view in VIEWS},
        "column function": {declared.name: fingerprint(declared.function) for declared in COLUMN_FUNCTIONS},
    }
    then = {"view": recorded["views"], "column function": recorded["nodes"]}
    moved = [
        f"{kind} {name}"
        for kind in now
        for name in sorted({*now[kind], *then[kind]})
        if now[kind].get(name) != then[kind].get(name)
    ]
    if moved:
        commit = str(recorded.get("git_commit", "unversioned"))
        raise ConfigError(
            f"rebuilding a training set: {len(moved)} declarations have moved since: {some(moved)}",
            next_step=f"rebuild it with the code that made it, commit {commit}",
        )


def _load(log: EventLog, stream: str, recorded: Mapping[str, Any]) -> Any:
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
