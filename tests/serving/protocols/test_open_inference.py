import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.protocols.open_inference import INPUTS, OUTPUTS, Predicted, _column
from tests.serving.process import JSON_HEADERS, Reply, Service
from tests.serving.protocols.asked import PARAMETERS, ROWS, V1, tensors
from tests.serving.world import World

MODEL = "/v2/models/flight-delay"


def infer(service: Service, body: Any, headers: dict[str, str] = JSON_HEADERS) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return service.send("POST", f"{MODEL}/infer", content, headers)


def outputs(reply: Reply) -> dict[str, list[Any]]:
    assert reply.status == 200, reply.content
    return {output["name"]: output["data"] for output in reply.json()["outputs"]}


def test_it_answers_what_v1_answers(service: Service) -> None:
    reply = infer(service, tensors())
    found, expected = outputs(reply), service.predict(V1).json()["predictions"]
    for name, missing in (("probability", None), ("decision", ""), ("mode", ""), ("arm", ""), ("model_version", 0)):
        assert found[name] == [item[name] or missing for item in expected]
    assert found["reason"] == [item["reason"] or "" for item in expected]
    body = reply.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("a-17", "flight-delay", "1")
    assert {output["name"]: output["datatype"] for output in body["outputs"]} == OUTPUTS
    assert all(output["shape"] == [len(ROWS)] for output in body["outputs"])
    assert reply.headers["x-flightdeck-mode"] == "model"


def test_it_is_logged_and_counted_like_v1(service: Service, live_world: World) -> None:
    counted = 'flightdeck_requests_total{status="200",surface="alerts"}'

    def n_counted() -> float:
        lines = service.get("/metrics").content.decode().splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(counted)), 0))

    before = n_counted()
    request_id = infer(service, tensors(), {**JSON_HEADERS, "X-Request-ID": "open-inference-1"}).headers["x-request-id"]
    assert request_id == "open-inference-1"
    logged = [record for record in live_world.records() if record["request_id"] == request_id]
    assert [record["flight_number"] for record in logged] == [row["flight_number"] for row in ROWS]
    assert {(record["surface"], record["unit_id"]) for record in logged} == {("alerts", "unit-7")}
    assert n_counted() == before + 1


def test_only_the_outputs_that_are_wanted_come_in_their_order(service: Service) -> None:
    wanted = [{"name": "mode"}, {"name": "probability", "parameters": {"binary_data": False}}]
    assert list(outputs(infer(service, {**tensors(), "outputs": wanted}))) == ["mode", "probability"]


def test_columns_of_one_are_taken_as_lists_of_one_or_flat(service: Service) -> None:
    plain = outputs(infer(service, tensors()))
    nested: dict[str, Any] = {name: {"shape": [3, 1], "data": [[row[name]] for row in ROWS]} for name in INPUTS}
    flat: dict[str, Any] = {name: {"shape": [3, 1]} for name in INPUTS}
    assert outputs(infer(service, tensors(ROWS, **nested))) == plain
    assert outputs(infer(service, tensors(ROWS, **flat))) == plain


def test_an_optional_input_may_be_left_out_null_or_empty(service: Service) -> None:
    rows = [{**ROWS[0], "tailnum": None}]
    expected = outputs(infer(service, tensors(rows)))
    assert outputs(infer(service, tensors(rows, tailnum=None))) == expected
    assert outputs(infer(service, tensors(rows, tailnum={"data": [""]}))) == expected


def test_without_parameters_the_configured_surface_and_a_unit_of_its_own(service: Service, live_world: World) -> None:
    body = {**tensors(), "parameters": {"request_timestamp": PARAMETERS["request_timestamp"]}}
    request_id = infer(service, body).headers["x-request-id"]
    [*logged] = [record for record in live_world.records() if record["request_id"] == request_id]
    assert {(record["surface"], record["unit_id"]) for record in logged} == {("search", request_id)}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (tensors(carrier=None, dest=None), ["no input carrier", "no input dest"]),
        (tensors(carrier={"datatype": "FP32"}, distance_miles={"datatype": "BYTES"}), ["is BYTES", "is INT64"]),
        (tensors(carrier={"shape": [2]}), ["inputs.1.shape"]),
        (tensors(carrier={"shape": [3, 2]}), ["inputs.0.shape"]),
        (tensors(carrier={"shape": []}), ["inputs.0.shape"]),
        (tensors(carrier={"shape": [-1]}), ["inputs.0.data", "inputs.1.shape"]),
        (tensors(origin={"data": ["EWR"]}), ["inputs.2.data"]),
        (tensors(carrier={"name": "origin"}), ["no input carrier", "inputs.2.name: origin is there twice"]),
        (tensors(tailnum={"name": "secret-4711"}), ["inputs.7.name: no such input"]),
        (
            tensors(carrier={"data": ["ua", "UA", "?"]}, distance_miles={"data": ["far", 1.5, True]}),
            ["inputs.carrier.data.0", "carrier.data.2", "distance_miles.data.0", "miles.data.1", "miles.data.2"],
        ),
        (tensors(scheduled_arrival={"data": [row["scheduled_departure"] for row in ROWS]}), ["inputs.0", "inputs.2"]),
        (tensors(carrier={"data": [["UA", "DL"], None, {}]}), ["data.0", "data.1", "data.2"]),
        (tensors([]), ["at least 1 item"]),
        (tensors([ROWS[0]] * 501), ["at most 500 items"]),
        (
            {**tensors(), "parameters": {"surface": "x", "unit_id": "", "secret-4711": 1}},
            ["surface", "unit_id", "<unk"],
        ),
        ({**tensors(), "parameters": {}}, ["request_timestamp"]),
        ({**tensors(), "outputs": [{"name": "secret-4711"}]}, ["outputs.0.name: no such output"]),
        ({**tensors(), "id": "x" * 257}, ["id"]),
        ({"inputs": [{"name": 1}]}, ["inputs.0.name", "inputs.0.shape", "inputs.0.datatype", "inputs.0.data"]),
        (
            {**tensors(), "parameters": {**PARAMETERS, "binary_data_output": True}},
            ["binary tensor data is not offered"],
        ),
        (tensors(carrier={"parameters": {"binary_data_size": 5}}), ["binary tensor data is not offered"]),
        ({**tensors(), "outputs": [{"name": "mode", "parameters": {"binary_data": True}}]}, ["binary tensor data"]),
        ({}, ["inputs"]),
        (b"[" * 100_000, ["body: Invalid JSON: recursion limit"]),
        (b"", ["body"]),
        (b"\xff", ["body"]),
    ],
)
def test_what_is_wrong_is_named_in_the_protocols_form(service: Service, body: Any, named: list[str]) -> None:
    reply = infer(service, body)
    assert reply.status == 400
    assert list(reply.json()) == ["error"]
    text = reply.json()["error"]
    assert [part for part in named if part not in text] == []
    assert "secret-4711" not in text and len(text) < 5000


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/octet-stream"},
        {**JSON_HEADERS, "Inference-Header-Content-Length": "20"},
        {"Content-Type": "application/json; charset=utf-16"},
    ],
)
def test_binary_tensors_are_415(service: Service, headers: dict[str, str]) -> None:
    reply = infer(service, tensors(), headers)
    assert reply.status == 415 and "JSON tensors" in reply.json()["error"]


def test_a_content_type_may_be_left_out(service: Service) -> None:
    assert infer(service, tensors(), {}).status == 200


def test_health_and_metadata(service: Service) -> None:
    assert service.get("/v2").json() == {"name": "Flightdeck predictions", "version": "1", "extensions": []}
    assert service.get("/v2/health/live").json() == {"live": True}
    assert service.get("/v2/health/ready").json() == {"ready": True}
    for path in (f"{MODEL}/ready", f"{MODEL}/versions/1/ready"):
        assert service.get(path).json() == {"name": "flight-delay", "ready": True}
    found = service.get(MODEL).json()
    assert service.get(f"{MODEL}/versions/1").json() == found
    assert (found["name"], found["versions"]) == ("flight-delay", ["1"])
    assert {tensor["name"]: tensor["datatype"] for tensor in found["inputs"]} == INPUTS
    assert {tensor["name"]: tensor["datatype"] for tensor in found["outputs"]} == OUTPUTS
    assert all(tensor["shape"] == [-1] for tensor in found["inputs"] + found["outputs"])


@pytest.mark.parametrize(
    "path", ["/v2/models/x", "/v2/models/x/ready", f"{MODEL}/versions/2", f"{MODEL}/versions/1.0/ready", "/v2/models"]
)
def test_what_is_not_loaded_is_404(service: Service, path: str) -> None:
    reply = service.get(path)
    assert reply.status == 404 and isinstance(reply.json()["error"], str)


def test_another_model_is_404(service: Service) -> None:
    assert service.send("POST", "/v2/models/x/infer", json.dumps(tensors()).encode(), JSON_HEADERS).status == 404


def test_a_refused_item_has_values_that_tensors_can_hold() -> None:
    refused = Predicted("x", None, None, "refused", None, "champion", None)
    found = {name: _column([refused], name) for name in OUTPUTS}
    assert math.isnan(np.array(found.pop("probability"), dtype=np.float64)[0])
    assert found == {"decision": [""], "mode": ["refused"], "reason": [""], "arm": ["champion"], "model_version": [0]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(list(INPUTS)),
    entry=st.sampled_from(["name", "shape", "datatype", "data", "parameters"]),
    value=json_values,
)
def test_no_value_anywhere_makes_the_service_fail(service: Service, name: str, entry: str, value: Any) -> None:
    assert infer(service, tensors(ROWS, **{name: {entry: value}})).status in (200, 400)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(json_values, min_size=3, max_size=3), name=st.sampled_from(list(INPUTS)))
def test_no_value_in_a_tensor_makes_the_service_fail(service: Service, name: str, data: list[Any]) -> None:
    assert infer(service, tensors(ROWS, **{name: {"data": data}})).status in (200, 400)


def test_after_all_of_it_the_service_is_well(service: Service) -> None:
    assert outputs(infer(service, tensors()))["mode"] == ["model"] * 3
    assert b"Traceback" not in service.log.read_bytes()
