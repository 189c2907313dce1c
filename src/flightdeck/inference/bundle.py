"""The sealed bundle: everything a release consists of, named by the digest of its manifest.

A bundle is a folder. `manifest.json` lists every other file with its SHA-256 and size; the bundle's digest is the
SHA-256 of that very file, so changing, adding, removing or renaming one byte or file changes or breaks
it. Sealing copies a draft to `bundles/<first 16 characters of the digest>` and shows it by one rename. A bundle is
data: opening one runs no code from it and reads no pickle.

The habit of one manifest over all files comes from sigstore's model-transparency; no code is shared.
"""

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from flightdeck.core.errors import BundleRefused, NotFoundError, some
from flightdeck.core.failpoints import failpoint
from flightdeck.core.files import sync_folder, write_atomically
from flightdeck.core.identifiers import canonical_json, digest_bytes, digest_file, digest_json
from flightdeck.inference.external_data import external_locations

MANIFEST = "manifest.json"
FORMAT = 2  # 1: graphs without the column functions; its releases needed the code that they were sealed with
REQUIRED = (
    "model.onnx",
    "fallback.onnx",
    "rules.json",
    "features.json",
    "surfaces.json",
    "training.json",
    "contract.yml",
    "runbook.md",
    "reference/features.parquet",
    "reference/inputs.parquet",
    "reference/days.parquet",
)
N_HASHERS = max(1, min(4, (os.cpu_count() or 1) // 2))  # a server hashes beside a loop that answers
EVIDENCE = ("evaluation/evaluation.ipynb", "evaluation/evaluation.html", "evaluation/verdict.json")


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digest and size in bytes of one file of a bundle."""

    sha256: str
    n_bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle holds: model name, files by relative POSIX path, and facts about their making."""

    name: str
    files: dict[str, FileEntry]
    metadata: dict[str, Any]
    format_version: int = FORMAT


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file has been compared with its manifest.

    Parameters
    ----------
    path
        Folder that holds the files.
    digest
        SHA-256 of the manifest, 64 hexadecimal characters.
    manifest
        The parsed manifest.
    """

    path: Path
    digest: str
    manifest: Manifest

    def read_json(self, name: str) -> Any:
        """Return the parsed content of the JSON file `name` of the bundle."""
        return msgspec.json.decode((self.path / name).read_bytes())


def content_digest(folder: Path) -> str:
    """Return the digest of a draft's files, evaluation evidence left out: what a verdict is about."""
    files = {name: entry.sha256 for name, entry in _entries(folder).items() if not name.startswith("evaluation/")}
    return digest_json(files)


def seal(draft: Path, bundles: Path, *, name: str, metadata: Mapping[str, Any]) -> Bundle:
    """Seal a draft folder: write its manifest and move it below `bundles`, read-only.

    Sealing the same content twice returns the bundle that is there.

    Raises
    ------
    BundleRefused
        If a required file is missing or a file is a link.
    """
    entries = _entries(draft)
    missing = [required for required in (*REQUIRED, *EVIDENCE) if required not in entries]
    if missing:
        raise BundleRefused(
            f"sealing {draft}: {some(missing)} missing",
            next_step="run the whole pipeline: kedro run --config kedro.yml",
        )
    manifest = canonical_json(msgspec.to_builtins(Manifest(name=name, files=entries, metadata=dict(metadata))))
    digest = digest_bytes(manifest)
    target = bundles / digest[:16]
    if not target.exists():
        staged = bundles / f".{digest[:16]}.{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(draft, staged, ignore=shutil.ignore_patterns(MANIFEST))
        failpoint("seal.copied")
        write_atomically(staged / MANIFEST, manifest)
        make_durable(staged)
        failpoint("seal.durable")
        staged.rename(target)
        failpoint("seal.renamed")
        sync_folder(bundles)
    return open_bundle(target, expected_digest=digest)


def draft_as_bundle(draft: Path) -> Bundle:
    """Return a draft as the bundle that sealing would make of it, without its evidence; nothing is written.

    Raises
    ------
    NotFoundError
        If the folder does not exist.
    BundleRefused
        If a required file is missing or a link, or a graph's tensors lie in a file that is not its own.
    """
    entries = {name: entry for name, entry in _entries(draft).items() if name not in EVIDENCE}
    missing = [required for required in REQUIRED if required not in entries]
    if missing:
        raise BundleRefused(
            f"opening the draft {draft}: {some(missing)} missing",
            next_step="run the whole pipeline: kedro run --config kedro.yml",
        )
    manifest = Manifest(name=draft.name, files=entries, metadata={})
    _refuse_foreign_tensors(draft, manifest)
    return Bundle(draft, digest_json(msgspec.to_builtins(manifest)), manifest)


def open_bundle(path: Path, *, expected_digest: str) -> Bundle:
    """Open a sealed bundle after comparing every file with the manifest and the manifest with `expected_digest`.

    Cost: reads every byte once in blocks (measured: 0.7 to 1 s per GB and core), several files at once where there are
    more than two cores.

    Raises
    ------
    NotFoundError
        If the folder or its manifest does not exist.
    BundleRefused
        If anything differs: all differences are named at once. If a graph's tensors lie in a file that is not its own.
    """
    manifest = read_manifest(path, expected_digest=expected_digest)
    found = _entries(path)
    altered = sorted(name for name in found.keys() & manifest.files.keys() if found[name] != manifest.files[name])
    missing = sorted(manifest.files.keys() - found.keys())
    extra = sorted(found.keys() - manifest.files.keys())
    differences = [
        f"{kind}: {some(names)}"
        for kind, names in (("altered", altered), ("missing", missing), ("not listed", extra))
        if names
    ]
    if differences:
        raise BundleRefused(f"opening bundle {path}: {'; '.join(differences)}", next_step=_RESTORE)
    _refuse_foreign_tensors(path, manifest)
    return Bundle(path, expected_digest, manifest)


def read_manifest(path: Path, *, expected_digest: str) -> Manifest:
    """Return the manifest of the bundle at `path` if it is the one of `expected_digest`; its files are not looked at.

    Raises
    ------
    NotFoundError
        If there is none.
    BundleRefused
        If it differs, is damaged or lists a file outside the folder.
    """
    if not (path / MANIFEST).is_file():
        raise NotFoundError(
            f"opening bundle {path}: no {MANIFEST}",
            next_step="restore the folder from a backup, or roll back: kedro release rollback",
        )
    content = (path / MANIFEST).read_bytes()
    digest = digest_bytes(content)
    if digest != expected_digest:
        raise BundleRefused(
            f"opening bundle {path}: its digest is {digest[:16]}, the ledger says {expected_digest[:16]}",
            next_step=_RESTORE,
        )
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleRefused(f"opening bundle {path}: {MANIFEST} is damaged: {error}", next_step=_RESTORE) from error
    outside = [name for name in manifest.files if not _is_inside(name)]
    if outside:
        raise BundleRefused(f"opening bundle {path}: {MANIFEST} lists {some(outside)}, outside it", next_step=_RESTORE)
    return manifest


def require_format(bundle: Bundle) -> None:
    """Refuse a bundle that was sealed in another format than this code reads.

    Raises
    ------
    BundleRefused
        Naming both formats.
    """
    found = bundle.manifest.format_version
    if found != FORMAT:
        raise BundleRefused(
            f"opening bundle {bundle.path}: it is of format {found}, this code reads format {FORMAT}",
            next_step="train and seal it again: kedro run --config kedro.yml"
            if found < FORMAT
            else "deploy the code that sealed it, or return to an older release: kedro release rollback",
        )


_RESTORE = "restore the folder from a backup, or roll back: kedro release rollback"


def _is_inside(name: str) -> bool:
    """Tell whether a listed name is a plain relative path that stays below the bundle's folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and "/".join(parts) == name and ".." not in parts and "\\" not in name and "\0" not in name


def _refuse_foreign_tensors(path: Path, manifest: Manifest) -> None:
    """Refuse graphs whose tensors lie elsewhere than in a listed file beside them; that no file is a link is known."""
    for graph in (name for name in manifest.files if name.endswith(".onnx")):
        beside = graph.rpartition("/")[0]
        listed = {name.rpartition("/")[2] for name in manifest.files if name.rpartition("/")[0] == beside}
        foreign = [place for place in external_locations(path / graph) if place not in listed]
        if foreign:
            raise BundleRefused(
                f"opening bundle {path}: tensors of {graph} lie in {some(map(repr, foreign))}; only a plain name of a "
                f"file beside it that {MANIFEST} lists is allowed",
                next_step="export the model again with its tensors beside it: kedro run --config kedro.yml",
            )


def make_durable(folder: Path) -> None:
    """Make the files read-only and flush them and their folders, before anything names the bundle."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
            continue
        path.chmod(0o444)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)


def _entries(folder: Path) -> dict[str, FileEntry]:
    """Return digest and size of every file below `folder`, refusing links and an absent folder."""
    if not folder.is_dir():
        raise NotFoundError(f"reading bundle {folder}: no such folder", next_step="kedro run --config kedro.yml")
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    links = [path.relative_to(folder).as_posix() for path in paths if path.is_symlink() or not path.is_file()]
    if links:
        raise BundleRefused(f"reading bundle {folder}: {some(links)} is a link or no plain file", next_step=_RESTORE)
    files = [path for path in paths if path.name != MANIFEST or path.parent != folder]
    with ThreadPoolExecutor(N_HASHERS) as pool:
        entries = list(pool.map(lambda file: FileEntry(digest_file(file), file.stat().st_size), files))
    return {path.relative_to(folder).as_posix(): entry for path, entry in zip(files, entries, strict=True)}
