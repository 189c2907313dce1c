"""MLflow's scoring protocol: from its tables to the question, from the answer to its predictions."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from serving.answering import media_type
from serving.errors import RequestRefused
from serving.protocols.mlflow_schemas import Invocation, Split
from serving.protocols.open_inference import read_answer
from serving.protocols.question import FIELDS, INTEGERS, OPTIONAL, Parameters, ProtocolSettings, make_ask, parse, refuse
from serving.wire import Ask

JSON, CSV = "application/json", "text/csv"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_encoder = msgspec.json.Encoder()


def ask_of(request: Request, body: bytes, settings: ProtocolSettings, request_id: str) -> Ask:
    """Return the question that a body asks.

    Raises
    ------
    RequestRefused
        415 for another content type, 400 with all broken rules.
    """
    kind, is_utf_8 = media_type(request)
    if kind not in (JSON, CSV) or not is_utf_8:
        raise RequestRefused(415, "unsupported_media_type", f"a body is sent as {JSON} or {CSV}, in UTF-8")
    form, rows, params = _read_json(body) if kind == JSON else ("csv", _read_csv(body), None)

    def where(row: str, field: str) -> str:
        return ".".join(filter(None, [form, row, field]))

    return make_ask(rows, params, settings, request_id, where, "params")


def write_answer(body: bytes) -> bytes:
    """Return the batcher's answer as predictions."""
    return _encoder.encode(read_answer(body))


def _read_json(body: bytes) -> tuple[str, list[dict[str, Any]], Parameters | None]:
    invocation: Invocation = parse(Invocation, body)
    given = [form for form in _FORMS if getattr(invocation, form) is not None]
    if len(given) != 1:
        raise refuse([("body", f"exactly one of {', '.join(_FORMS)}")])
    table = getattr(invocation, given[0])
    if isinstance(table, Split):
        rows = _from_columns(given[0], table.columns, table.data)
    elif isinstance(table, dict):
        if len({len(values) for values in table.values()}) > 1:
            raise refuse([(given[0], "all fields have as many values")])
        rows = _from_columns(given[0], list(table), list(zip(*table.values(), strict=True)))
    else:
        rows = table
    return given[0], [_known(row) for row in rows], invocation.params


def _read_csv(body: bytes) -> list[dict[str, Any]]:
    try:
        header, *lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise refuse([("csv", "CSV in UTF-8, with a line of field names first")]) from None
    rows = _from_columns("csv", header, [line for line in lines if line])
    return [{name: _typed(name, text) for name, text in row.items()} for row in rows]


def _from_columns(form: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return a table's rows by field, if it has the fields that it needs and each row a value for each."""
    problems = [(form, f"no field {name}") for name in FIELDS if name not in columns and name not in OPTIONAL]
    if not set(columns) <= set(FIELDS):
        problems.append((form, f"unknown fields; there are {', '.join(FIELDS)} (leave out the index)"))
    if len(set(columns)) < len(columns):
        problems.append((form, "each field once"))
    problems += [(f"{form}.{n}", "a value for each field") for n, row in enumerate(data) if len(row) != len(columns)]
    if problems:
        raise refuse(problems)
    return [dict(zip(columns, row, strict=True)) for row in data]


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose optional values are None where pandas wrote NaN."""
    return {name: None if name in OPTIONAL and value != value else value for name, value in row.items()}


def _typed(name: str, text: str) -> object:
    if name in INTEGERS:
        return int(text) if _INTEGER.fullmatch(text) else text
    return None if name in OPTIONAL and not text else text
