"""The one door to MLflow's model registry: versions, aliases and tags of one registered model.

The registry is a projection of the ledger for people and tools that know MLflow; nothing of ours decides by it. MLflow
is imported inside the functions: it costs a second, which commands that only read the ledger need not pay.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.failpoints import failpoint
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.external_data import external_locations
from flightdeck.inference.onnx_model import INT64, STRING, OnnxModel
from flightdeck.inference.release_bundle import read_features

DIGEST_TAG = "bundle_digest"
logger = logging.getLogger(__name__)


class RegistryUnavailable(FlightdeckError):
    """MLflow's registry cannot be reached or refuses to answer."""


class Registry:
    """The registered model `model_name` in the MLflow at `uri`.

    Parameters
    ----------
    uri
        Tracking and registry URI, usually `Layout.mlflow_uri`.
    model_name
        Name of the registered model.
    """

    def __init__(self, uri: str, model_name: str) -> None:
        self.uri = uri
        self.model_name = model_name

    def register(self, bundle: Bundle, *, run_id: str | None = None, tags: Mapping[str, str] | None = None) -> int:
        """Register a sealed bundle as a new version and return its number; a bundle that is there keeps its number.

        Where `run_id` is given, the bundle's files become artifacts of that run, a second copy away from the bundles
        folder, and its graph becomes a model that `mlflow.pyfunc.load_model` opens: the version's source.

        Raises
        ------
        RegistryUnavailable
            If MLflow does not answer.
        """
        known = {digest: version for version, digest in self.digests().items()}
        if bundle.digest in known:
            return known[bundle.digest]
        with self._client("registering a version") as client:
            source = bundle.path.absolute().as_uri()
            if run_id:
                client.log_artifacts(run_id, str(bundle.path), "bundle")
                failpoint("registry.bundle_copied")
                with TemporaryDirectory() as folder:
                    _save_pyfunc(bundle, Path(folder) / "model")
                    client.log_artifacts(run_id, folder)
                source = f"{client.get_run(run_id).info.artifact_uri}/model"
            return self._create(client, bundle.digest, source, run_id, tags or {})

    def digests(self) -> dict[int, str]:
        """Return the bundle digest of every registered version, oldest first; {} before the first."""
        with self._client("listing versions") as client:
            found = client.search_model_versions(f"name = '{self.model_name}'")
            return {int(v.version): v.tags.get(DIGEST_TAG, "") for v in sorted(found, key=lambda v: int(v.version))}

    def second_copy(self, digest: str, folder: Path) -> Path:
        """Return a folder with the copy of a bundle that its run keeps; one that is elsewhere is fetched into `folder`.

        Raises
        ------
        NotFoundError
            If no version is this bundle, or it was registered without a run.
        RegistryUnavailable
            If MLflow does not answer, or the run has no such artifact.
        """
        with self._client("finding the second copy of a bundle") as client:
            found = client.search_model_versions(f"name = '{self.model_name}'")
            runs = [str(one.run_id) for one in found if one.run_id and one.tags.get(DIGEST_TAG) == digest]
            if not runs:
                raise NotFoundError(f"MLflow at {self.uri} has no run that keeps bundle {digest[:16]}")
            return Path(client.download_artifacts(runs[0], "bundle", str(folder)))

    def restore(self, version: int, digest: str, source: str) -> None:
        """Register a version that MLflow has lost under its old number, with placeholders for numbers before it.

        Raises
        ------
        RegistryUnavailable
            If MLflow has gone past the number: it never gives one twice.
        """
        with self._client("restoring a version") as client:
            made = 0
            while made < version:
                is_last = max(made, *self.digests(), 0) + 1 >= version
                tags = {"restored": "from the ledger"} if is_last else {"restored": "placeholder, not in the ledger"}
                made = self._create(client, digest if is_last else "", source if is_last else "file:///", None, tags)
        if made != version:
            raise RegistryUnavailable(
                f"MLflow has lost version {version} of {self.model_name!r} and gives it the number {made} now",
                next_step="restore data/06_models/mlflow.db from a backup",
            )

    def aliases(self) -> dict[str, int]:
        """Return the version that each alias points to; {} before the first version."""
        with self._client("reading aliases") as client:
            if not client.search_registered_models(f"name = '{self.model_name}'"):
                return {}
            return {
                name: int(version) for name, version in client.get_registered_model(self.model_name).aliases.items()
            }

    def set_alias(self, alias: str, version: int | None) -> None:
        """Point `alias` to `version`, or take it away where `version` is None."""
        with self._client(f"setting the alias {alias}") as client:
            if version is None:
                client.delete_registered_model_alias(self.model_name, alias)
            else:
                client.set_registered_model_alias(self.model_name, alias, str(version))

    def tag(self, name: str) -> str:
        """Return a tag of the registered model, or the empty string."""
        with self._client("reading a tag") as client:
            if not client.search_registered_models(f"name = '{self.model_name}'"):
                return ""
            return str(client.get_registered_model(self.model_name).tags.get(name, ""))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the registered model."""
        with self._client("setting a tag") as client:
            client.set_registered_model_tag(self.model_name, name, value)

    def set_stage_tag(self, version: int, stage: str) -> None:
        """Show the stage of a version as its tag `stage`."""
        with self._client("tagging a version") as client:
            client.set_model_version_tag(self.model_name, str(version), "stage", stage)

    def _create(self, client: Any, digest: str, source: str, run_id: str | None, tags: Mapping[str, str]) -> int:
        if not client.search_registered_models(f"name = '{self.model_name}'"):
            client.create_registered_model(self.model_name)
            failpoint("registry.model_created")
        made = client.create_model_version(
            self.model_name, source=source, run_id=run_id, tags={**tags, DIGEST_TAG: digest}
        )
        failpoint("registry.version_created")
        return int(made.version)

    @contextmanager
    def _client(self, doing: str) -> Iterator[Any]:
        # a release command waits seconds for a dead server, not the client's default of several minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        quiet = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils")]
        levels = [(log, log.level) for log in quiet]
        for log in quiet:
            log.setLevel(logging.WARNING)  # its first use of a database narrates forty migrations
        try:
            yield MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise RegistryUnavailable(
                f"{doing} of {self.model_name!r} in MLflow at {self.uri}: {str(error).splitlines()[0][:300]}",
                next_step="bring MLflow back, then: kedro release reconcile",
            ) from error
        finally:
            for log, level in levels:
                log.setLevel(level)


def _save_pyfunc(bundle: Bundle, folder: Path) -> None:
    """Write the bundle's graph as an MLflow model whose code is `pyfunc_model.py` as it stands, nothing pickled."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    features = read_features(bundle.path)
    path = bundle.path / "model.onnx"
    model = OnnxModel.open(path, n_views=len(features.view_columns), n_numeric=len(features.numeric))
    kinds = {INT64: DataType.long, STRING: DataType.string}
    asked = [ColSpec(kinds[kind], name) for name, kind in model.request.items()]
    known = [ColSpec(DataType.double, name) for name in features.view_columns]
    beside = {f"tensors in {name}": str(path.with_name(name)) for name in external_locations(path)}
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"model": str(path), "features": str(bundle.path / "features.json"), **beside},
        signature=ModelSignature(Schema([*asked, *known]), Schema([ColSpec(DataType.double, "probability")])),
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnxruntime", "pandas")],
    )
