"""Names made from content: digests of bytes, files, JSON values and functions."""

import ast
import hashlib
import inspect
import json
import os
import random
import textwrap
from collections.abc import Callable
from pathlib import Path

_random = random.Random(os.urandom(32))  # noqa: S311 - names are unique, not secret; a system call each would cost more
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def digest_bytes(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of `content` (64 characters)."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in blocks so that its size does not matter."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: object) -> bytes:
    """Return the one byte string that stands for a JSON value: sorted keys, no spaces, no NaN.

    Examples
    --------
    >>> canonical_json({"b": 1, "a": [2]})
    b'{"a":[2],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def digest_json(value: object) -> str:
    """Return the SHA-256 of the canonical form of a JSON value."""
    return digest_bytes(canonical_json(value))


def new_request_id() -> str:
    """Return a fresh random identifier of 32 hexadecimal characters."""
    return f"{_random.getrandbits(128):032x}"


def fingerprint(function: Callable[..., object]) -> str:
    """Return a digest of what a function does: its parsed body without docstring, comments and layout.

    Reformatting or documenting a function keeps its fingerprint; changing a constant or an operator does not.
    Functions that it calls are not followed: each node has a fingerprint of its own.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    if isinstance(definition, ast.FunctionDef):
        definition.decorator_list = []
        if ast.get_docstring(definition) is not None:
            definition.body = definition.body[1:]
    return digest_bytes(ast.dump(tree, annotate_fields=False).encode())
