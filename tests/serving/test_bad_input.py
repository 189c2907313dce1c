"""Every bad input has a documented status; none is a 500, and none is echoed."""

import contextlib
import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.process import JSON_HEADERS, Service
from tests.serving.world import FLIGHT, ask


def body_with(value: bytes, field: str = "distance_miles") -> bytes:
    """Return a request whose flight has `value`, as raw JSON, in `field`."""
    body = json.dumps({**ask(), "flights": [{**FLIGHT, field: "@@"}]}).encode()
    return body.replace(b'"@@"', value)


def changed(**change: Any) -> bytes:
    return json.dumps({**ask(), **change}).encode()


def flight(**change: Any) -> bytes:
    return changed(flights=[{**FLIGHT, **change}])


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in ask().items() if name != field}).encode()


CASES = {
    "NaN": (body_with(b"NaN"), 422),
    "Infinity": (body_with(b"-Infinity"), 422),
    "1e400": (body_with(b"1e400"), 422),
    "lone surrogate": (body_with(b'"\\ud800"', "carrier"), 422),
    "lone surrogate in a key": (b'{"\\udfff": 1}', 422),
    "lone surrogate in the unit": (json.dumps({**ask(), "unit_id": "a\ud800b"}).encode(), 422),
    "5,000-digit int": (body_with(b"9" * 5000), 400),
    "30-digit int": (body_with(b"9" * 30), 422),
    "text for a number": (body_with(b'"1.5"'), 422),
    "true for a number": (body_with(b"true"), 422),
    "fraction for a whole number": (body_with(b"100.5"), 422),
    "null for a number": (body_with(b"null"), 422),
    "unknown field": (changed(model="champion"), 422),
    "unknown field of a flight": (flight(dep_delay=5), 422),
    "100,000 levels": (b"[" * 100_000, 400),
    "100,000 levels in a field": (body_with(b"[" * 100_000 + b"]" * 100_000), 400),
    "UTF-16": (json.dumps(ask()).encode("utf-16"), 422),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(ask()).encode(), 422),
    "bad UTF-8": (body_with(b'"\xff\xfe"', "carrier"), 422),
    "NUL": (body_with(b'"U\\u0000"', "carrier"), 422),
    "newline in the unit": (changed(unit_id="a\nb"), 422),
    "escape in the unit": (changed(unit_id="\x1b[31m"), 422),
    "empty": (b"", 422),
    "null": (b"null", 422),
    "list": (b"[]", 422),
    "text": (b'"text"', 422),
    "truncated": (json.dumps(ask()).encode()[:-20], 422),
    "trailing": (json.dumps(ask()).encode() + b"x", 422),
    "no unit": (without("unit_id"), 422),
    "empty unit": (changed(unit_id=""), 422),
    "long unit": (changed(unit_id="u" * 129), 422),
    "no surface": (without("surface"), 422),
    "unknown surface": (changed(surface="critical"), 422),
    "no flights": (changed(flights=[]), 422),
    "501 flights": (json.dumps(ask(501)).encode(), 422),
    "100,000 flights": (json.dumps(ask(100_000)).encode(), 413),
    "ragged flights": (changed(flights=[FLIGHT, {}]), 422),
    "10 MB text": (changed(unit_id="u" * 10_000_000), 413),
    "name of a path": (flight(origin="../"), 422),
    "lower case": (flight(carrier="ua"), 422),
    "full-width letters": (flight(origin="ＥＷＲ"), 422),
    "trailing newline": (flight(origin="EWR\n"), 422),
    "origin is destination": (flight(dest="EWR"), 422),
    "flight 0": (flight(flight_number=0), 422),
    "distance 0": (flight(distance_miles=0), 422),
    "naive time": (flight(scheduled_departure="2013-09-12T10:05:00"), 422),
    "time as number": (flight(scheduled_departure=1378994700), 422),
    "time as digits": (flight(scheduled_departure="1378994700"), 422),
    "date only": (flight(scheduled_departure="2013-09-12"), 422),
    "no such day": (flight(scheduled_departure="2013-02-30T10:05:00Z"), 422),
    "year 1": (flight(scheduled_departure="0001-01-01T00:00:00+14:00"), 422),
    "year 9999": (flight(scheduled_departure="9999-12-31T23:59:59-14:00"), 422),
    "arrives before it departs": (flight(scheduled_arrival="2013-09-12T10:04:00-04:00"), 422),
    "three days in the air": (flight(scheduled_arrival="2013-09-15T10:06:00-04:00"), 422),
    "long tailnum": (flight(tailnum="N12345678"), 422),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_body_is_refused_with_its_documented_status(service: Service, name: str) -> None:
    body, status = CASES[name]
    reply = service.predict(body)
    assert reply.status == status
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "next_step", "violations"}
    assert error["next_step"]
    assert len(reply.content) < 5_000


def test_all_broken_rules_are_named_at_once(service: Service) -> None:
    found = service.predict(flight(carrier="ua", distance_miles="far", tailnum="?")).json()["error"]["violations"]
    assert [violation["where"] for violation in found] == [
        "flights.0.carrier",
        "flights.0.distance_miles",
        "flights.0.tailnum",
    ]


def test_what_was_sent_is_not_echoed(service: Service) -> None:
    assert b"secret-4711" not in service.predict(flight(carrier="secret-4711")).content
    assert b"secret-4711" not in service.predict(changed(surface="secret-4711")).content


def test_the_name_of_an_unknown_field_is_not_echoed(service: Service) -> None:
    for body, where in (
        (changed(**{"secret-4711": 1}), "<unknown field>"),
        (flight(**{"secret-4711": 1}), "flights.0.<unknown field>"),
    ):
        reply = service.predict(body)
        assert b"secret-4711" not in reply.content
        assert [violation["where"] for violation in reply.json()["error"]["violations"]] == [where]


@pytest.mark.parametrize("field", ["carrier", "tailnum", "origin", "dest"])
def test_no_entity_is_too_long_for_a_key_of_the_store(service: Service, field: str) -> None:
    assert service.predict(flight(**{field: "A" * 600})).status == 422
    longest = service.predict(flight(carrier="A9", tailnum="N9999-99", origin="ZZZ", dest="YYY")).json()
    assert longest["predictions"][0]["mode"] == "model"
    assert "store_unavailable" not in (longest["predictions"][0]["reason"] or "")


def test_of_a_repeated_key_the_last_value_counts(service: Service) -> None:
    reply = service.predict(body_with(b'17, "distance_miles": 1400'))
    plain = service.predict(body_with(b"1400"))
    assert reply.status == 200
    assert reply.json()["predictions"] == plain.json()["predictions"]


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/jsonp",
    ],
)
def test_another_content_type_is_415(service: Service, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert service.predict(json.dumps(ask()).encode(), headers).status == 415


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8"])
def test_json_in_utf_8_is_taken(service: Service, kind: str) -> None:
    assert service.predict(ask(), {"Content-Type": kind}).status == 200


def test_a_compressed_body_is_415_and_never_unpacked(service: Service) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert service.predict(bomb, {**JSON_HEADERS, "Content-Encoding": "gzip"}).status == 415


def test_headers_do_not_choose_who_answers(service: Service) -> None:
    forged = {"surface": "critical", "X-Forwarded-For": "10.0.0.1", "x-route": "canary", "x-arm": "canary"}
    reply = service.predict(ask(), {**JSON_HEADERS, **forged, "x-deadline-ms": "-1e18"})
    assert reply.json()["predictions"] == service.predict(ask()).json()["predictions"]


def test_an_announced_body_of_a_gigabyte_is_413_before_it_is_sent(service: Service) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", service.port), 30)) as connection:
        head = (
            "POST /v1/predictions HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_without_an_end_is_413(service: Service) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 16_384

    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    with contextlib.closing(connection):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", "/v1/predictions", chunks(), JSON_HEADERS, encode_chunked=True)
        with contextlib.suppress(ConnectionResetError):
            assert connection.getresponse().status == 413
    assert service.get("/healthz").status == 200


def test_unknown_paths_and_methods_have_the_same_form(service: Service) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/v1/predictions", 405),
        ("DELETE", "/healthz", 405),
    ):
        reply = service.send(method, path)
        assert reply.status == status
        assert reply.json()["error"]["code"] == "http_error"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from([*ask(), *FLIGHT]), value=json_values)
def test_no_value_anywhere_makes_the_service_fail(service: Service, field: str, value: Any) -> None:
    change = flight(**{field: value}) if field in FLIGHT else changed(**{field: value})
    assert service.predict(change).status in (200, 400, 422)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_bytes_make_the_service_fail(service: Service, content: bytes) -> None:
    assert service.predict(content).status in (400, 422)


def test_after_all_of_it_the_service_is_well(service: Service) -> None:
    assert service.process.poll() is None
    assert service.predict(ask()).json()["predictions"][0]["mode"] == "model"
    assert b"Traceback" not in service.log.read_bytes()
    assert 'status="5' not in service.get("/metrics").content.decode()
