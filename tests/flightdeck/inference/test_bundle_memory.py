"""Memory is asked for before a bundle is opened."""

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from flightdeck.inference.bundle import FileEntry, Manifest, read_manifest
from flightdeck.inference.bundle_memory import MANY, BundleTooLarge, needed_bytes, require_memory, room_for
from flightdeck.inference.release_bundle import load_release
from serving.use_case import running_code
from tests.serving.world import World

GRAPH, TENSORS = 10_000_000, 4_000_000_000


def manifest() -> Manifest:
    entries = {"model.onnx": FileEntry("0" * 64, GRAPH), "model.onnx.data": FileEntry("1" * 64, TENSORS)}
    return Manifest(name="flight-delay", files=entries, metadata={})


def test_a_graph_counts_twelve_times_and_tensors_beside_it_once() -> None:
    assert needed_bytes(manifest()) == 12 * GRAPH + TENSORS


def test_what_does_not_fit_is_refused_with_both_figures(tmp_path: Path) -> None:
    needed = needed_bytes(manifest())
    require_memory(tmp_path, manifest(), lambda: needed)
    require_memory(tmp_path, manifest(), lambda: None)
    with pytest.raises(BundleTooLarge, match=r"takes up to 4,120 MB of memory, 4,000 MB are available") as refused:
        require_memory(tmp_path, manifest(), lambda: 4_000_000_000)
    assert refused.value.needed_bytes == needed
    assert "looked at again" in refused.value.next_step


def test_memory_is_asked_before_any_file_is_read(tmp_path: Path) -> None:
    bundle = World(tmp_path).seal()
    for path in bundle.path.rglob("*.onnx"):
        path.unlink()
    with pytest.raises(BundleTooLarge):
        load_release(bundle.path, digest=bundle.digest, version=1, code=running_code(), available=lambda: 0)


def test_who_opens_at_the_same_moment_sees_what_the_one_before_took(tmp_path: Path) -> None:
    needed, turns = needed_bytes(manifest()), tmp_path / "turns.lock"
    free, inside, may_leave = [needed + 1], threading.Event(), threading.Event()

    def take() -> None:
        with room_for(tmp_path, manifest(), lambda: free[0], turns):
            inside.set()
            may_leave.wait(30)
            free[0] -= needed

    def wait_and_take() -> None:
        with room_for(tmp_path, manifest(), lambda: free[0], turns):
            free[0] -= needed

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(take)
        assert inside.wait(30)
        second = pool.submit(wait_and_take)
        assert wait([second], timeout=0.3).not_done, "it waits for its turn"
        may_leave.set()
        first.result(30)
        with pytest.raises(BundleTooLarge):
            second.result(30)
    assert free[0] == 1
    free[0] = needed
    wait_and_take()


def test_a_bundle_that_fits_many_times_waits_for_nobody(tmp_path: Path) -> None:
    turns = tmp_path / "turns.lock"
    with room_for(tmp_path, manifest(), lambda: MANY * needed_bytes(manifest()), turns):
        assert not turns.exists()
    with room_for(tmp_path, manifest(), lambda: MANY * needed_bytes(manifest()) - 1, turns):
        assert turns.exists()


def test_where_nothing_can_be_written_memory_is_still_asked(tmp_path: Path) -> None:
    nowhere = tmp_path / "no folder" / "turns.lock"
    with room_for(tmp_path, manifest(), lambda: needed_bytes(manifest()), nowhere):
        pass
    with pytest.raises(BundleTooLarge), room_for(tmp_path, manifest(), lambda: 0, nowhere):
        pass


def test_a_release_is_opened_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bundle = World(tmp_path / "world").seal()
    size = needed_bytes(read_manifest(bundle.path, expected_digest=bundle.digest))
    load_release(bundle.path, digest=bundle.digest, version=1, code=running_code(), available=lambda: size)
    assert [path.name for path in tmp_path.glob("*.lock")] == [f"flightdeck-opening-{os.getuid()}.lock"]
