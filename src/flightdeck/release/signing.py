"""The Ed25519 key pair that signs checkpoints: made once, the private half readable by its owner only.

Who holds the private key can sign anything: keep it on the machines that decide and nowhere else, and a copy of the
public key where nobody who can write to the ledger can write too.
"""

import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from flightdeck.core.errors import ConfigError
from flightdeck.core.files import sync_folder, write_atomically
from flightdeck.core.identifiers import digest_bytes

_PURPOSE = b"flightdeck ledger checkpoint 1\n"


class PublicKey:
    """The half that checks.

    Parameters
    ----------
    key
        The key itself.
    """

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.name = digest_bytes(key.public_bytes_raw())[:16]
        """First 16 hexadecimal characters of the digest of the key."""

    def is_signed(self, content: bytes, signature: str) -> bool:
        """Tell whether `signature` (hexadecimal) was made for `content` with the private half."""
        try:
            self._key.verify(bytes.fromhex(signature), _PURPOSE + content)
        except (InvalidSignature, ValueError):
            return False
        return True

    def pem(self) -> bytes:
        """Return the key as text."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Signer:
    """The half that signs, and the public one."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def make(cls) -> "Signer":
        """Return a new pair."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, content: bytes) -> str:
        """Return the signature of `content`, 128 hexadecimal characters."""
        return self._key.sign(_PURPOSE + content).hex()

    def pem(self) -> bytes:
        """Return the private key as text, not encrypted."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_public_key(path: Path) -> PublicKey:
    """Return the public key in the PEM file at `path`.

    Raises
    ------
    ConfigError
        If it cannot be read or holds no Ed25519 key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"reading the public key {path}: {error}", next_step="put it back, or --key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"reading the public key {path}: it is no Ed25519 key")
    return PublicKey(key)


def open_signer(private: Path, public: Path) -> Signer:
    """Return the pair of these two files; where both are absent it is made, the private one with mode 0600.

    Raises
    ------
    ConfigError
        If only one half is there, they do not fit, or others than the owner may read the private one.
    OSError
        If a file cannot be read or written.
    """
    if not private.exists():
        if public.exists():
            raise ConfigError(
                f"signing a checkpoint: {public} is there, its private key {private} is not",
                next_step="put the private key back, or begin anew in another folder of checkpoints (ledger.yml)",
            )
        _make(private)
    signer = _read(private)
    if not public.exists():
        write_atomically(public, signer.public.pem())
    if read_public_key(public).name != signer.public.name:
        raise ConfigError(
            f"signing a checkpoint: {private} and {public} are not one pair",
            next_step="put the right private key back, or begin anew in another folder of checkpoints (ledger.yml)",
        )
    return signer


def _make(private: Path) -> None:
    """Write a new private key beside and link it: of two processes one makes the key that both use."""
    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = private.with_name(f".{private.name}.{os.getpid()}.new")
    write_atomically(beside, Signer.make().pem(), mode=0o600)
    try:
        with suppress(FileExistsError):
            os.link(beside, private)
        sync_folder(private.parent)
    finally:
        beside.unlink(missing_ok=True)


def _read(private: Path) -> Signer:
    mode = private.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConfigError(
            f"signing a checkpoint: {private} has mode {mode:04o}, others than its owner may use it",
            next_step=f"chmod 600 {private}; if somebody may have read it, begin anew with another pair",
        )
    try:
        key = load_pem_private_key(private.read_bytes(), password=None)
    except ValueError as error:
        raise ConfigError(f"reading the private key {private}: {error}", next_step="put the file back") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"reading the private key {private}: it is no Ed25519 key")
    return Signer(key)
