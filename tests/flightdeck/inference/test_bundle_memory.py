"""Memory is asked for before a bundle is opened."""

from pathlib import Path

import pytest

from flightdeck.inference.bundle import FileEntry, Manifest
from flightdeck.inference.bundle_memory import BundleTooLarge, needed_bytes, require_memory
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
