"""Kedro's door to the draft bundle: training writes it, the gate reads it, sealing takes it."""

import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from flightdeck.core.errors import NotFoundError
from flightdeck.core.files import write_atomically
from flightdeck.core.identifiers import digest_file
from flightdeck.inference.bundle import content_digest
from flightdeck.inference.large_graph import write_graph


class DraftBundleDataset(AbstractDataset[dict[str, bytes | Path], dict[str, str]]):
    """The files of a candidate before it is sealed.

    Saving replaces the draft by files given as relative path -> content, or -> a file to copy where it is too large for
    memory; large tensors of a graph go into a file beside it (`large_graph`). Loading returns where it lies and what it
    is: `path`, `content_digest`, `model_digest`.

    Parameters
    ----------
    filepath
        Folder of the draft.
    """

    def __init__(self, *, filepath: str) -> None:
        self._folder = Path(filepath)

    def save(self, data: dict[str, bytes | Path]) -> None:
        """Replace the draft: the old one is gone before the first new file appears."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for name, content in data.items():
            path = self._folder / name
            if isinstance(content, Path):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(content, path)
            elif path.suffix == ".onnx":
                write_graph(path, content)
            else:
                write_atomically(path, content)

    def load(self) -> dict[str, str]:
        """Return path and digests of the draft.

        Raises
        ------
        NotFoundError
            If there is no draft.
        """
        if not (self._folder / "model.onnx").is_file():
            raise NotFoundError(
                f"reading the draft bundle: nothing in {self._folder}", next_step="kedro run --pipelines training"
            )
        return {
            "path": str(self._folder),
            "content_digest": content_digest(self._folder),
            "model_digest": digest_file(self._folder / "model.onnx"),
        }

    def _exists(self) -> bool:
        return (self._folder / "model.onnx").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
