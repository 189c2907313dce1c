"""The file of checkpoints and the key pair: made once, extended in turn, refused where they are off."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flightdeck.core.errors import ConfigError, FlightdeckError, LedgerCorrupt, ReleaseRefused
from flightdeck.core.layout import PROJECT
from flightdeck.release.checkpoints import CheckpointLog, checkpoint_folder, read_checkpoints
from flightdeck.release.signing import read_public_key

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)
FIRST = "1" * 64


@pytest.fixture
def log(tmp_path: Path) -> CheckpointLog:
    return CheckpointLog(tmp_path / "audit", tmp_path / "private" / "signing.key")


def sign(log: CheckpointLog, seq: int) -> None:
    log.extend(seq, f"{seq:064x}", FIRST, NOON)


def problems(log: CheckpointLog) -> list[str]:
    return read_checkpoints(log.lines(), read_public_key(log.public_key))[1]


def test_checkpoints_are_chained_and_signed_by_a_key_that_is_made_once(log: CheckpointLog, tmp_path: Path) -> None:
    assert log.newest() is None and log.lines() == []
    for seq in (1, 2, 5):
        sign(log, seq)
    key = tmp_path / "private" / "signing.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    found, wrong = read_checkpoints(log.lines(), read_public_key(log.public_key))
    assert wrong == [] and [checkpoint.seq for checkpoint in found] == [1, 2, 5]
    assert {(checkpoint.ledger, checkpoint.at) for checkpoint in found} == {(FIRST, NOON)}
    assert log.newest() == found[-1]


def test_what_a_later_checkpoint_covers_is_not_signed_again(log: CheckpointLog) -> None:
    sign(log, 5)
    assert log.extend(3, "3" * 64, FIRST, NOON).seq == 5
    assert len(log.lines()) == 1


def test_a_line_that_a_crash_left_unfinished_is_told_and_taken_off(log: CheckpointLog) -> None:
    for seq in (1, 2):
        sign(log, seq)
    content = log.path.read_bytes()
    log.path.write_bytes(content[:-40])
    newest = log.newest()
    assert newest is not None and newest.seq == 1
    assert problems(log) == [
        "checkpoint line 2: it has no end: cut by a crash or by somebody; kedro audit checkpoint takes it off"
    ]
    sign(log, 2)
    assert log.path.read_bytes() == content and problems(log) == []


def test_the_first_line_unfinished_is_taken_off_too(log: CheckpointLog) -> None:
    sign(log, 1)
    content = log.path.read_bytes()
    log.path.write_bytes(content[:100])
    assert log.newest() is None
    sign(log, 1)
    assert log.path.read_bytes() == content


def test_nothing_is_added_to_a_last_line_that_nobody_signed(log: CheckpointLog) -> None:
    sign(log, 1)
    log.path.write_bytes(log.path.read_bytes().replace(b'"seq":1', b'"seq":7'))
    for use in (log.newest, lambda: sign(log, 8)):
        with pytest.raises(LedgerCorrupt, match="not what was signed"):
            use()
    assert len(log.lines()) == 1


def test_a_private_key_that_others_may_read_signs_nothing(log: CheckpointLog, tmp_path: Path) -> None:
    sign(log, 1)
    (tmp_path / "private" / "signing.key").chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640"):
        sign(log, 2)


def test_a_lost_private_key_is_not_replaced_silently(log: CheckpointLog, tmp_path: Path) -> None:
    sign(log, 1)
    key = tmp_path / "private" / "signing.key"
    whole = key.read_bytes()
    key.unlink()
    with pytest.raises(ConfigError, match=r"its private key .* is not"):
        sign(log, 2)
    other = CheckpointLog(tmp_path / "other", key)
    sign(other, 1)
    with pytest.raises(ConfigError, match="not one pair"):
        sign(log, 2)
    key.write_bytes(whole)
    sign(log, 2)
    assert problems(log) == []


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_key_that_is_none_is_refused(log: CheckpointLog, content: bytes) -> None:
    sign(log, 1)
    log.public_key.write_bytes(content)
    with pytest.raises(ConfigError, match="public key"):
        log.newest()


def test_a_folder_that_cannot_be_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = CheckpointLog(tmp_path / "file" / "audit", tmp_path / "signing.key")
    with pytest.raises(ReleaseRefused, match="kedro audit checkpoint"):
        sign(log, 1)
    with pytest.raises(ReleaseRefused, match="kedro audit checkpoint"):
        log.require_room()


def test_a_failing_step_is_logged_and_gives_nothing(log: CheckpointLog, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise FlightdeckError("the disk is gone")

    assert log.warn_of(fail) is None
    assert caplog.messages == ["the disk is gone"]


def test_checkpoints_go_to_folders() -> None:
    assert checkpoint_folder("/mnt/audit") == checkpoint_folder("file:///mnt/audit") == Path("/mnt/audit")
    assert checkpoint_folder("audit") == PROJECT / "audit"
    for name in ("s3://bucket/audit", "file://", ""):
        with pytest.raises(ConfigError, match=r"ledger\.yml"):
            checkpoint_folder(name)
