"""A bundle reaches a serving machine whole or not at all, and a delivery that was cut off goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from flightdeck.core.errors import BundleRefused, ConfigError, DeliveryFailed, NotFoundError
from flightdeck.core.identifiers import canonical_json, digest_bytes
from flightdeck.core.layout import PROJECT
from flightdeck.inference.bundle import EVIDENCE, MANIFEST, REQUIRED, Bundle, FileEntry, open_bundle, seal
from flightdeck.inference.delivery import fetch_bundle, source_folder
from flightdeck.inference.partial_file import BLOCK_BYTES, SAFE_BYTES
from tests.candidates import seal_tiny

LARGE = 2 * SAFE_BYTES + 10_000_000
SLOW = """
import sys, time
from pathlib import Path
from flightdeck.inference.delivery import fetch_bundle
from flightdeck.inference.partial_file import SAFE_BYTES

n_bytes = 0
def watch(n):
    global n_bytes
    n_bytes += n
    if n_bytes > int(sys.argv[4]):
        print("far enough", flush=True)
        time.sleep(60)

fetch_bundle(Path(sys.argv[1]), Path(sys.argv[2]), digest=sys.argv[3], on_progress=watch)
"""
FULL = """
import json, sys
from pathlib import Path
from flightdeck.core.errors import DeliveryFailed
from flightdeck.inference.delivery import fetch_bundle

source, disk, digest = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
ballast = disk / "ballast"
def fill(n):
    if not ballast.exists():
        with ballast.open("wb", buffering=0) as stream:
            try:
                while stream.write(bytes(1 << 20)):
                    pass
            except OSError:
                pass

said = []
for on_progress in (fill, lambda n: None):
    try:
        fetch_bundle(source, disk / "bundles", digest=digest, on_progress=on_progress)
    except DeliveryFailed as error:
        said.append([error.message, error.next_step])
kept = [path.name for path in (disk / "bundles").rglob("*.part")]
ballast.unlink()
done = fetch_bundle(source, disk / "bundles", digest=digest)
print(json.dumps({"said": said, "kept": kept, "copied": done.n_copied_bytes, "before": done.n_kept_bytes}))
"""


@pytest.fixture
def store(tmp_path: Path) -> Bundle:
    return seal_tiny(tmp_path / "draft", tmp_path / "store", mark="one")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with one file of more than two safe points."""
    draft = tmp_path_factory.mktemp("large") / "draft"
    for name in (*REQUIRED, *EVIDENCE):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_text(name)
    (draft / "model.onnx.data").write_bytes(os.urandom(1 << 20) * (LARGE >> 20) + b"end")
    return seal(draft, draft.parent / "store", name="flight-delay", metadata={})


def size(bundle: Bundle) -> int:
    return sum(entry.n_bytes for entry in bundle.manifest.files.values())


def workplace(bundle: Bundle, bundles: Path) -> Path:
    return bundles / f".{bundle.digest[:16]}.delivery"


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_bundle_arrives_as_it_was_sealed(store: Bundle, tmp_path: Path) -> None:
    bundles, to_come, came = tmp_path / "local", list[int](), list[int]()
    done = fetch_bundle(
        store.path.parent, bundles, digest=store.digest, on_begin=to_come.append, on_progress=came.append
    )
    assert to_come == [sum(came)] == [size(store)]
    assert (done.n_copied_bytes, done.n_kept_bytes) == (size(store), 0)
    assert done.bundle == open_bundle(bundles / store.digest[:16], expected_digest=store.digest)
    assert [path.name for path in bundles.iterdir()] == [store.digest[:16]], "nothing is left over"
    assert all(path.stat().st_mode & 0o222 == 0 for path in done.bundle.path.rglob("*.onnx"))
    again = fetch_bundle(tmp_path / "gone", bundles, digest=store.digest)
    assert (again.n_copied_bytes, again.n_kept_bytes) == (0, size(store)), "what is there is only verified"


@pytest.mark.parametrize("n_safe", [0, 1, 2])
def test_after_kill_9_it_goes_on_from_the_last_safe_point(large: Bundle, tmp_path: Path, n_safe: int) -> None:
    source, bundles = large.path.parent, tmp_path / "local"
    until = n_safe * SAFE_BYTES + BLOCK_BYTES
    with python(SLOW, source, bundles, large.digest, until) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "far enough\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (bundles / large.digest[:16]).exists()
    done = fetch_bundle(source, bundles, digest=large.digest)
    small = sum(entry.n_bytes for name, entry in large.manifest.files.items() if name < "model.onnx.data")
    assert done.n_kept_bytes == n_safe * SAFE_BYTES + small
    assert done.n_kept_bytes + done.n_copied_bytes == size(large)
    assert open_bundle(done.bundle.path, expected_digest=large.digest) == done.bundle


def spoil_start(part: Path) -> None:
    with part.open("r+b") as stream:
        stream.write(b"spoilt")


def cut(part: Path) -> None:
    os.truncate(part, SAFE_BYTES - 1)


def spoil_tail(part: Path) -> None:
    with part.open("r+b") as stream:
        stream.seek(SAFE_BYTES)
        stream.write(b"spoilt")


def lose_sidecar(part: Path) -> None:
    part.with_name(f"{part.name}.json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "n_safe"),
    [(spoil_start, 0), (cut, 0), (spoil_tail, 1), (lose_sidecar, 0)],
)
def test_a_partial_file_is_trusted_as_far_as_its_hash_says(
    large: Bundle, tmp_path: Path, harm: Callable[[Path], None], n_safe: int
) -> None:
    place = workplace(large, tmp_path)
    place.mkdir()
    part = place / "model.onnx.data.part"
    content = (large.path / "model.onnx.data").read_bytes()[: SAFE_BYTES + BLOCK_BYTES]
    part.write_bytes(content)
    safe = FileEntry(digest_bytes(content[:SAFE_BYTES]), SAFE_BYTES)
    part.with_name(f"{part.name}.json").write_bytes(msgspec.json.encode(safe))
    harm(part)
    done = fetch_bundle(large.path.parent, tmp_path, digest=large.digest)
    assert done.n_kept_bytes == n_safe * SAFE_BYTES
    assert open_bundle(done.bundle.path, expected_digest=large.digest) == done.bundle


def test_complete_files_of_an_attempt_before_are_hashed_again_and_strangers_go(store: Bundle, tmp_path: Path) -> None:
    place = workplace(store, tmp_path)
    (place / "reference").mkdir(parents=True)
    (place / "rules.json").write_bytes((store.path / "rules.json").read_bytes())
    (place / "model.onnx").write_bytes((store.path / "model.onnx").read_bytes()[::-1])
    (place / "stranger").write_text("?")
    (place / "runbook.md").symlink_to(store.path / "runbook.md")
    done = fetch_bundle(store.path.parent, tmp_path, digest=store.digest)
    assert done.n_kept_bytes == store.manifest.files["rules.json"].n_bytes
    assert open_bundle(done.bundle.path, expected_digest=store.digest) == done.bundle


def test_two_processes_at_once_are_safe(large: Bundle, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flightdeck.inference.delivery import fetch_bundle\n"
        "print(fetch_bundle(Path(sys.argv[1]), Path(sys.argv[2]), digest=sys.argv[3]).n_copied_bytes)"
    )
    running = [python(code, large.path.parent, tmp_path / "local", large.digest) for _ in range(3)]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(map(int, said)) == [0, 0, size(large)], "one copies, the others find it"
    assert [path.name for path in (tmp_path / "local").iterdir()] == [large.digest[:16]]


def test_many_threads_at_once_are_safe(store: Bundle, tmp_path: Path) -> None:
    for turn in range(20):
        bundles = tmp_path / str(turn)
        with ThreadPoolExecutor(4) as pool:
            done = list(
                pool.map(lambda _, to=bundles: fetch_bundle(store.path.parent, to, digest=store.digest), "1234")
            )
        assert sorted(delivery.n_copied_bytes for delivery in done) == [0, 0, 0, size(store)]
        assert [path.name for path in bundles.iterdir()] == [store.digest[:16]]


def test_a_source_that_was_altered_is_refused_and_nothing_appears(store: Bundle, tmp_path: Path) -> None:
    (store.path / "model.onnx").chmod(0o644)
    (store.path / "model.onnx").write_text("other")
    with pytest.raises(BundleRefused, match=r"model\.onnx: its SHA-256 is \w+, the manifest says"):
        fetch_bundle(store.path.parent, tmp_path / "local", digest=store.digest)
    assert not (tmp_path / "local" / store.digest[:16]).exists()
    (store.path / "model.onnx").unlink()
    (store.path / "model.onnx").symlink_to(store.path / "rules.json")
    with pytest.raises(BundleRefused, match="a link or no plain file"):
        fetch_bundle(store.path.parent, tmp_path / "local", digest=store.digest)
    (store.path / MANIFEST).chmod(0o644)
    (store.path / MANIFEST).write_text("{}")
    with pytest.raises(BundleRefused, match="its digest is"):
        fetch_bundle(store.path.parent, tmp_path / "local", digest=store.digest)
    with pytest.raises(NotFoundError, match="hold"):
        fetch_bundle(tmp_path / "nothing", tmp_path / "local", digest=store.digest)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a//b", "./a", "..\\outside", ""])
def test_a_manifest_that_lists_files_outside_is_refused(store: Bundle, tmp_path: Path, name: str) -> None:
    listed = {**msgspec.to_builtins(store.manifest.files), name: {"sha256": "0" * 64, "n_bytes": 3}}
    content = canonical_json({**msgspec.to_builtins(store.manifest), "files": listed})
    digest = digest_bytes(content)
    folder = tmp_path / "evil" / digest[:16]
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleRefused, match="outside it"):
        fetch_bundle(tmp_path / "evil", tmp_path / "local", digest=digest)
    with pytest.raises(BundleRefused, match="outside it"):
        open_bundle(folder, expected_digest=digest)


def test_a_source_that_fails_leaves_what_was_copied(store: Bundle, tmp_path: Path) -> None:
    def lose_source(n_bytes: int) -> None:
        raise OSError(5, f"Input/output error after {n_bytes} bytes")

    with pytest.raises(DeliveryFailed, match="Input/output error") as failed:
        fetch_bundle(store.path.parent, tmp_path / "local", digest=store.digest, on_progress=lose_source)
    assert "goes on where it stopped" in failed.value.next_step
    assert workplace(store, tmp_path / "local").is_dir()


def test_a_full_disk_leaves_the_partial_file_and_says_so(large: Bundle, tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size={(LARGE + 20_000_000) >> 10}k tmpfs "{tmp_path}" && exec "$@"'
    mounted = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", sys.executable]
    if subprocess.run([*mounted, "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not allow a file system of one's own")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])}
    command = [*mounted, "-c", FULL, str(large.path.parent), str(tmp_path), large.digest]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=PROJECT)
    found = json.loads(done.stdout)
    assert len(found["said"]) == 2, "in the middle, and before the next attempt has begun"
    assert all("the disk is full" in message and "bytes stay in" in message for message, _ in found["said"])
    assert all("make room" in step for _, step in found["said"])
    assert len(found["kept"]) == 1
    assert found["copied"] + found["before"] == size(large)


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("/store/bundles", "/store/bundles"),
        ("store", "store"),
        ("file:///store/a%20b", "/store/a b"),
        ("file://localhost/store", "/store"),
    ],
)
def test_sources_are_folders(source: str, folder: str) -> None:
    assert source_folder(source) == Path(folder)


@pytest.mark.parametrize("source", ["https://store/bundles", "s3://bucket/bundles", "file://elsewhere/store", "file:"])
def test_other_urls_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="a folder or file:///"):
        source_folder(source)
