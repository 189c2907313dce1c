"""The sealed bundle: changing, adding, removing or renaming anything breaks it."""

import os
from pathlib import Path

import pytest

from flightdeck.core.errors import BundleRefused, NotFoundError
from flightdeck.core.identifiers import digest_file
from flightdeck.inference.bundle import MANIFEST, Bundle, open_bundle, seal
from tests.candidates import seal_tiny


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return seal_tiny(tmp_path / "draft", tmp_path / "bundles", mark="one")


def unlocked(path: Path) -> Path:
    path.chmod(0o644)
    return path


def test_the_digest_is_that_of_the_manifest_file(bundle: Bundle) -> None:
    assert bundle.digest == digest_file(bundle.path / MANIFEST)
    assert bundle.path.name == bundle.digest[:16]
    assert open_bundle(bundle.path, expected_digest=bundle.digest) == bundle


def test_sealing_the_same_content_twice_gives_the_same_bundle(bundle: Bundle, tmp_path: Path) -> None:
    leftover = bundle.path.with_name(f".{bundle.digest[:16]}.{os.getpid()}")
    leftover.mkdir()
    again = seal_tiny(tmp_path / "draft", tmp_path / "bundles", mark="one")
    other = seal_tiny(tmp_path / "draft", tmp_path / "bundles", mark="two")
    assert again == bundle != other


@pytest.mark.parametrize("name", ["model.onnx", "training.json", "evaluation/verdict.json", MANIFEST])
def test_any_changed_byte_is_refused(bundle: Bundle, name: str) -> None:
    file = unlocked(bundle.path / name)
    content = file.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BundleRefused):
            open_bundle(bundle.path, expected_digest=bundle.digest)
    file.write_bytes(content.replace(b":", b": ", 1) if name == MANIFEST else content + b" ")
    with pytest.raises(BundleRefused):
        open_bundle(bundle.path, expected_digest=bundle.digest)


def test_all_differences_are_named_at_once(bundle: Bundle) -> None:
    unlocked(bundle.path / "model.onnx").write_bytes(b"other")
    (bundle.path / "rules.json").rename(bundle.path / "rules2.json")
    with pytest.raises(BundleRefused, match=r"altered: model.onnx; missing: rules.json; not listed: rules2.json"):
        open_bundle(bundle.path, expected_digest=bundle.digest)


def test_links_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((bundle.path / "model.onnx").read_bytes())
    (bundle.path / "model.onnx").unlink()
    (bundle.path / "model.onnx").symlink_to(elsewhere)
    with pytest.raises(BundleRefused, match=r"model.onnx is a link"):
        open_bundle(bundle.path, expected_digest=bundle.digest)


def test_what_is_missing_is_named(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="rollback"):
        open_bundle(tmp_path / "nothing", expected_digest=bundle.digest)
    (tmp_path / "draft" / "model.onnx").unlink()
    with pytest.raises(BundleRefused, match=r"model.onnx missing"):
        seal(tmp_path / "draft", tmp_path / "bundles", name="flight-delay", metadata={})
