"""From an artifact store's folder to the bundles of a serving machine: streamed, hashed on the way, shown at once.

A delivery works in a folder of its own beside the bundles, `.<first 16 characters of the digest>.delivery`. Whoever
delivers holds a lock on it, so of two at once one waits and then finds the bundle. The folder outlives a crash: what is
complete in it is hashed again, a partial file (`partial_file`) goes on where it stopped. The bundle appears by one
rename once every file is the one that the manifest lists, and the manifest is that of the digest that was asked for.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flightdeck.core.errors import BundleRefused, ConfigError, DeliveryFailed, NotFoundError
from flightdeck.core.files import sync_folder, write_atomically
from flightdeck.core.identifiers import digest_file
from flightdeck.inference.bundle import MANIFEST, Bundle, FileEntry, Manifest, make_durable, open_bundle, read_manifest
from flightdeck.inference.partial_file import PART, PROGRESS, copy_resumably

AGAIN = "run the same command again: it goes on where it stopped"


@dataclass(frozen=True)
class Delivery:
    """What a delivery did.

    Parameters
    ----------
    bundle
        The bundle, in its place.
    n_copied_bytes
        Read from the source now.
    n_kept_bytes
        Taken over from an attempt before this one, or from a bundle that was there.
    """

    bundle: Bundle
    n_copied_bytes: int
    n_kept_bytes: int


def source_folder(source: str) -> Path:
    """Return the folder that a path or a `file://` URL names.

    Raises
    ------
    ConfigError
        If it is another kind of URL, or one of another machine.
    """
    url = urlsplit(source)
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path:
        return Path(unquote(url.path))
    if "://" in source or url.scheme == "file":
        raise ConfigError(
            f"fetching a bundle from {source!r}: a folder or file:///path/of/a/folder is needed",
            next_step="mount the artifact store as a folder and name that",
        )
    return Path(source)


def fetch_bundle(
    source: Path,
    bundles: Path,
    *,
    digest: str,
    on_begin: Callable[[int], None] = lambda n_bytes: None,
    on_progress: Callable[[int], None] = lambda n_bytes: None,
) -> Delivery:
    """Copy the bundle of `digest` from the folder `source` to the folder `bundles`; one that is there is verified.

    Parameters
    ----------
    source
        Folder that holds bundles by the first 16 characters of their digest.
    bundles
        Folder of the sealed bundles of this machine.
    digest
        Digest of the bundle, 64 hexadecimal characters.
    on_begin
        Called with the number of bytes that are to come, before the first block.
    on_progress
        Called with the number of bytes of each block that has been copied.

    Raises
    ------
    NotFoundError
        If the source has no such bundle.
    BundleRefused
        If the source's files are not those of the digest, or the bundle that is there is damaged.
    DeliveryFailed
        If the disk is full or a file cannot be read; what has been copied stays for the next attempt.
    """
    origin, target = source / digest[:16], bundles / digest[:16]
    while not target.exists():
        with _workplace(bundles / f".{digest[:16]}.delivery") as place:
            if place is None:
                continue
            if target.exists():
                shutil.rmtree(place, ignore_errors=True)
                break
            try:
                manifest = _manifest_of(origin, digest)
                n_copied = _copy_all(origin, place, manifest, on_begin, on_progress)
                write_atomically(place / MANIFEST, (origin / MANIFEST).read_bytes())
                read_manifest(place, expected_digest=digest)
                make_durable(place)
                place.rename(target)
                sync_folder(bundles)
            except OSError as error:
                raise _failure(origin, place, error) from error
            n_bytes = sum(entry.n_bytes for entry in manifest.files.values())
            return Delivery(Bundle(target, digest, manifest), n_copied, n_bytes - n_copied)
    bundle = open_bundle(target, expected_digest=digest)
    return Delivery(bundle, 0, sum(entry.n_bytes for entry in bundle.manifest.files.values()))


@contextmanager
def _workplace(folder: Path) -> Iterator[Path | None]:
    """Give the folder to one delivery at a time; None if the one before has moved it away meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder if _inode(folder) == os.fstat(descriptor).st_ino else None
    finally:
        os.close(descriptor)


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _manifest_of(origin: Path, digest: str) -> Manifest:
    """Return the manifest of the source; it has other ways out of trouble than a bundle of this machine."""
    try:
        return read_manifest(origin, expected_digest=digest)
    except NotFoundError as error:
        raise NotFoundError(
            f"fetching bundle {digest[:16]}: no {origin / MANIFEST}",
            next_step="name the folder that holds the bundles by their digest, as data/06_models/bundles does",
        ) from error
    except BundleRefused as error:
        raise BundleRefused(
            f"fetching bundle {digest[:16]}: {error.message}", next_step="publish the bundle to the store again"
        ) from error


def _copy_all(
    origin: Path,
    place: Path,
    manifest: Manifest,
    on_begin: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> int:
    """Complete the work folder and return how many bytes were copied now."""
    _clear(place, manifest)
    missing = {name: entry for name, entry in manifest.files.items() if not _is_complete(place / name, entry)}
    held = sum(path.stat().st_size for path in place.rglob(f"*{PART}"))
    needed = sum(entry.n_bytes for entry in missing.values()) - held
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are to come, {free:,} are free")
    on_begin(needed)
    return sum(copy_resumably(origin / name, place / name, entry, on_progress) for name, entry in missing.items())


def _clear(place: Path, manifest: Manifest) -> None:
    """Remove what no file of the bundle is or becomes."""
    names = {name + ending for name in manifest.files for ending in ("", PART, PROGRESS)}
    for path in sorted(place.rglob("*"), reverse=True):
        if path.is_symlink() or (not path.is_dir() and path.relative_to(place).as_posix() not in names):
            path.unlink()


def _is_complete(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.n_bytes and digest_file(path) == entry.sha256


def _failure(origin: Path, place: Path, error: OSError) -> DeliveryFailed:
    held = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    kept = f"{held:,} bytes stay in {place}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DeliveryFailed(
            f"fetching bundle {origin}: the disk is full ({error.strerror}); {kept}",
            next_step=f"make room on the disk of {place.parent}, then {AGAIN}",
        )
    return DeliveryFailed(f"fetching bundle {origin}: {error}; {kept}", next_step=AGAIN)
