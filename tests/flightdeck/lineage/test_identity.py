from functools import partial
from types import SimpleNamespace

import pyarrow as pa
import pytest

from flightdeck.core.identifiers import digest_bytes
from flightdeck.lineage.graph import Node
from flightdeck.lineage.identity import code_of, identify, stream_node


class Delivery:
    source = "flights"
    digest = "abc"


class Sealed:
    digest = "abc"


def versioned_table() -> pa.Table:
    facts = {"flightdeck.stream": "departed", "flightdeck.version": "3", "flightdeck.digest": "dd"}
    return pa.table({"a": [1]}).replace_schema_metadata(facts)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (versioned_table(), stream_node("departed", 3, "dd")),
        (Delivery(), Node("source", "flights", "abc")),
        (Sealed(), Node("dataset", "thing", "abc")),
        (b"model", Node("dataset", "thing", digest_bytes(b"model"))),
        ({"content_digest": "cc", "path": "x"}, Node("dataset", "thing", "cc")),
        ({"digest": 7}, Node("dataset", "thing", "run")),
        (pa.table({"a": [1]}), Node("dataset", "thing", "run")),
        (None, Node("dataset", "thing", "run")),
    ],
)
def test_a_value_is_known_by_what_it_says_of_itself(value: object, expected: Node) -> None:
    assert identify("thing@arrow", value, "run") == expected


def test_parameters_are_known_by_their_content() -> None:
    one, same, other = (identify("params:a", value, "run") for value in ({"x": 1}, {"x": 1}, {"x": 2}))
    assert one == same
    assert one != other
    assert identify("params:a", {"x": object()}, "run").version == "run"


def test_code_without_source_is_left_out() -> None:
    assert code_of("len", len) is None
    assert code_of("partial", partial(versioned_table)) is None
    known = code_of("versioned_table", versioned_table)
    assert known is not None
    assert len(known.version) == 64


def test_metadata_that_is_not_text_is_not_a_stream() -> None:
    schema = SimpleNamespace(metadata={b"\xff": b"\xff", 3: None})
    assert identify("thing", SimpleNamespace(schema=schema), "run") == Node("dataset", "thing", "run")
