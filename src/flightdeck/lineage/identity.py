"""What a value that passes through a run says about its own version, and so which node of the graph it is.

Values are asked by their shape, not by their class, so that this room knows no other:

- a table whose schema metadata names a stream, its version and digest is that version of the stream;
- an object with a `source` and a `digest` is that delivery of the source;
- bytes are their SHA-256; a mapping with `content_digest` or `digest` is that digest;
- parameters are the digest of their JSON;
- anything else is known only as what this run made.
"""

from collections.abc import Callable, Mapping

from flightdeck.core.identifiers import digest_bytes, digest_json, fingerprint
from flightdeck.lineage.graph import Node

_PREFIX = "flightdeck."


def identify(dataset: str, value: object, run_id: str) -> Node:
    """Return the node that stands for `value`, known to Kedro as `dataset`, in the run `run_id`.

    Examples
    --------
    >>> identify("params:seed", 7, "r1").name
    'seed'
    >>> identify("frame", object(), "r1")
    Node(kind='dataset', name='frame', version='r1')
    """
    if dataset == "parameters" or dataset.startswith("params:"):
        return Node("parameters", dataset.removeprefix("params:"), _digest_of_json(value) or run_id)
    stream = _stream(value)
    if stream is not None:
        return stream
    source, digest = getattr(value, "source", None), getattr(value, "digest", None)
    if isinstance(source, str) and isinstance(digest, str):
        return Node("source", source, digest)
    return Node("dataset", catalog_name(dataset), _content_digest(value) or run_id)


def catalog_name(dataset: str) -> str:
    """Return the name in the catalog without Kedro's transcoding (`flights@pandas` is `flights`)."""
    return dataset.partition("@")[0]


def code_of(name: str, function: Callable[..., object]) -> Node | None:
    """Return the node of a function's code, None where its source cannot be had (a builtin, a partial)."""
    try:
        return Node("code", name, fingerprint(function))
    except (OSError, TypeError, SyntaxError):
        return None


def stream_node(name: str, version: int | str, digest: str) -> Node:
    """Return the node of one version of an event stream."""
    return Node("stream", name, f"{version}:{digest}")


def _stream(value: object) -> Node | None:
    metadata = getattr(getattr(value, "schema", None), "metadata", None)
    if not isinstance(metadata, Mapping):
        return None
    facts = {_decoded(key).removeprefix(_PREFIX): _decoded(text) for key, text in metadata.items()}
    if not {"stream", "version", "digest"} <= facts.keys():
        return None
    return stream_node(facts["stream"], facts["version"], facts["digest"])


def _decoded(text: object) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _content_digest(value: object) -> str:
    if isinstance(value, bytes):
        return digest_bytes(value)
    if isinstance(value, Mapping):
        digest = value.get("content_digest", value.get("digest"))
        return digest if isinstance(digest, str) else ""
    digest = getattr(value, "digest", None)
    return digest if isinstance(digest, str) else ""


def _digest_of_json(value: object) -> str:
    try:
        return digest_json(value)
    except (TypeError, ValueError):
        return ""
