"""`kedro features rebuild`: the training set of a bundle, made again from the versions that it recorded."""

from typing import Any

import click
import msgspec

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.features_env import ENV
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ContractViolation, NotFoundError, some
from flightdeck.core.layout import Layout, layout
from flightdeck.events.log import EventLog
from flightdeck.events.offset import offset_of
from flightdeck.inference.bundle import open_bundle
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.state import fold
from pipelines.features.rebuild import rebuild_training_set


@click.command()
@click.argument("bundle")
@ENV
@reports_errors
def rebuild(bundle: str) -> None:
    """Make the training set of BUNDLE again and compare every byte.

    BUNDLE is the beginning of a bundle's digest, `latest` for the last one in the ledger, or `draft` for what training
    has written last. Events that came later change nothing.
    """
    places = layout()
    name, recorded, features = recorded_training(places, bundle)
    rebuilt = rebuild_training_set(EventLog(places.event_log), recorded, features)
    offset = offset_of({stream: int(found["version"]) for stream, found in recorded["data_versions"].items()})
    if not rebuilt.is_identical:
        raise ContractViolation(
            f"the training set of {name}, rebuilt from {offset}, is {rebuilt.digest[:16]}; the record says "
            f"{rebuilt.recorded_digest[:16]}",
            next_step="compare requirements.lock and the settings of both runs: kedro lineage show",
        )
    click.echo(f"training set of {name}: {len(rebuilt.training_set):,} rows from {offset}")
    click.echo(f"identical to the recorded one, byte by byte: {rebuilt.digest}")


def recorded_training(places: Layout, wanted: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the name of a bundle, and the content of its `training.json` and its `features.json`.

    Raises
    ------
    NotFoundError
        If there is no such bundle, or more than one.
    BundleRefused
        If its files are not those that were sealed.
    """
    if wanted == "draft":
        paths = [places.draft_bundle / name for name in ("training.json", "features.json")]
        if not all(path.is_file() for path in paths):
            raise NotFoundError("there is no draft", next_step="kedro run --pipelines features,training")
        training, features = (dict(msgspec.json.decode(path.read_bytes())) for path in paths)
        return "the draft", training, features
    versions = fold(released_ledger(places, SystemClock()).records()).versions
    digests = {number: state.digest for number, state in sorted(versions.items())}
    last = list(digests.values())[-1:]
    chosen = last if wanted == "latest" else [digest for digest in digests.values() if digest.startswith(wanted)]
    if len(set(chosen)) != 1:
        there = [f"{digest[:16]} (version {number})" for number, digest in digests.items()]
        raise NotFoundError(
            f"rebuilding {wanted!r}: it names {len(set(chosen))} bundles; there: {some(there) or 'none'}",
            next_step="name one of them by more of its digest, or latest, or draft",
        )
    found = open_bundle(places.bundles / chosen[0][:16], expected_digest=chosen[0])
    return f"bundle {chosen[0][:16]}", dict(found.read_json("training.json")), dict(found.read_json("features.json"))
