import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.pyfunc.scoring_server import CONTENT_TYPE_CSV, CONTENT_TYPE_JSON
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from tests.serving.process import JSON_HEADERS, Reply, Service, serving
from tests.serving.protocols.asked import PARAMETERS, ROWS, V1
from tests.serving.protocols.test_open_inference import json_values
from tests.serving.world import FLIGHT, World

FIELDS = list(FLIGHT)
KEPT = ("flight_id", "probability", "decision", "mode", "reason", "arm", "model_version")
SPLIT = {"columns": FIELDS, "data": [[row[name] for name in FIELDS] for row in ROWS]}
COLUMNS = {name: [row[name] for row in ROWS] for name in FIELDS}


def invoke(service: Service, body: Any, headers: dict[str, str] = JSON_HEADERS) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return service.send("POST", "/invocations", content, headers)


def expected(service: Service) -> list[dict[str, Any]]:
    return [{name: item[name] for name in KEPT} for item in service.predict(V1).json()["predictions"]]


@pytest.mark.parametrize(
    "table",
    [
        {"dataframe_split": SPLIT},
        {"dataframe_split": {**SPLIT, "index": [0, 1, 2]}},
        {"dataframe_records": ROWS},
        {"instances": ROWS},
        {"inputs": COLUMNS},
        {"inputs": ROWS},
    ],
)
def test_each_form_answers_what_v1_answers(service: Service, table: dict[str, Any]) -> None:
    reply = invoke(service, {**table, "params": PARAMETERS})
    assert reply.status == 200
    assert reply.json() == {"predictions": expected(service)}


def test_mlflows_own_client_is_answered(service: Service) -> None:
    client = ScoringServerClient("127.0.0.1", service.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version() == "1"
    answer = client.invoke(pd.DataFrame(ROWS), params=PARAMETERS).get_predictions()
    wanted = pd.DataFrame(expected(service))
    pd.testing.assert_frame_equal(answer[list(KEPT)], wanted, check_dtype=False)
    rows = client.invoke(ROWS, params=PARAMETERS).get_predictions()
    assert rows["probability"].tolist() == wanted["probability"].tolist()


def test_a_missing_value_of_pandas_is_a_missing_value(service: Service) -> None:
    table = pd.DataFrame(ROWS)
    table["tailnum"] = table["tailnum"].astype(object).where(table["tailnum"].notna(), float("nan"))
    body = json.dumps({"dataframe_split": table.to_dict(orient="split"), "params": PARAMETERS})
    assert "NaN" in body
    assert invoke(service, body.encode()).json()["predictions"] == expected(service)


def test_csv_as_pandas_writes_it(world: World) -> None:
    world.release(world.seal())
    text = pd.DataFrame(ROWS).to_csv(index=False).encode()
    with serving(world.layout.root, clock="system") as service:
        reply = invoke(service, text, {"Content-Type": CONTENT_TYPE_CSV})
        assert reply.status == 200
        assert [item["flight_id"] for item in reply.json()["predictions"]] == [
            "2013-09-12:UA:1545:EWR",
            "2013-09-12:UA:2:EWR",
            "2013-09-12:DL:1545:LGA",
        ]
        assert reply.json()["predictions"] == invoke(service, {"instances": ROWS}).json()["predictions"]
    logged = {(record["surface"], record["request_id"] == record["unit_id"]) for record in world.records()}
    assert logged == {("search", True)}, "the configured surface; a unit of its own"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, ["body"]),
        ({"instances": ROWS, "inputs": COLUMNS}, ["body"]),
        ({"instances": []}, ["instances"]),
        ({"instances": [{**FLIGHT, "carrier": "?"}, {}], "params": {"surface": "x"}}, ["params.surface"]),
        (
            {"instances": [{**FLIGHT, "carrier": "?", "distance_miles": 1.5}, FLIGHT, {**FLIGHT, "secret-4711": 1}]},
            ["instances.0.carrier", "instances.0.distance_miles", "instances.2.<unknown field>"],
        ),
        ({"dataframe_split": {"columns": ["carrier", "carrier"], "data": [[1], [1, 2]]}}, ["dataframe_split"] * 2),
        ({"dataframe_split": {"columns": [*FIELDS, "secret-4711"], "data": []}}, ["dataframe_split"]),
        ({"dataframe_split": SPLIT["data"]}, ["dataframe_split"]),
        ({"inputs": {**COLUMNS, "dest": ["IAH"]}}, ["inputs"]),
        ({"inputs": [ROWS]}, ["inputs.dict[str,list[any]]"]),
        ({"instances": ROWS, "secret-4711": 1}, ["<unknown field>"]),
        (b"{", ["body"]),
        (b"\xff", ["body"]),
    ],
)
def test_what_is_wrong_is_named(service: Service, body: Any, named: list[str]) -> None:
    reply = invoke(service, body)
    assert reply.status == 400
    places = [violation["where"] for violation in reply.json()["error"]["violations"]]
    assert [place for place in named if place not in places] == []
    assert b"secret-4711" not in reply.content


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"carrier\nUA\n", b'"', b"a,b\n1\n", b"\0", b"x" * 200_000, pd.DataFrame(ROWS).to_csv().encode()],
)
def test_csv_that_is_none_or_lacks_something_is_400(service: Service, text: bytes) -> None:
    reply = invoke(service, text, {"Content-Type": CONTENT_TYPE_CSV})
    assert reply.status == 400
    assert {violation["where"].partition(".")[0] for violation in reply.json()["error"]["violations"]} == {"csv"}


@pytest.mark.parametrize("kind", ["application/json; format=pandas-split", "text/plain", "application/x-parquet", ""])
def test_another_content_type_is_415(service: Service, kind: str) -> None:
    assert invoke(service, {"instances": ROWS}, {"Content-Type": kind}).status == 415


def test_mlflows_content_types_are_those_that_are_taken(service: Service) -> None:
    body = {"instances": ROWS, "params": PARAMETERS}
    assert invoke(service, body, {"Content-Type": f"{CONTENT_TYPE_JSON}; charset=utf-8"}).status == 200


def test_ping_and_health_say_whether_a_champion_is_loaded(service: Service, world: World) -> None:
    for path in ("/ping", "/health"):
        assert service.get(path).status == 200
    with serving(world.layout.root) as empty:
        for path in ("/ping", "/health"):
            assert empty.get(path).status == 503
        assert (empty.get("/v2/health/ready").status, empty.get("/v2/health/live").status) == (400, 200)
        assert empty.get("/v2/models/flight-delay").status == 404
        assert invoke(empty, {"instances": ROWS, "params": PARAMETERS}).status == 503


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]), value=json_values
)
def test_no_value_anywhere_makes_the_service_fail(service: Service, form: str, value: Any) -> None:
    assert invoke(service, {"instances": ROWS, "params": PARAMETERS, form: value}).status in (200, 400)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(FIELDS), value=json_values)
def test_no_value_in_a_row_makes_the_service_fail(service: Service, field: str, value: Any) -> None:
    body = {"inputs": {**COLUMNS, field: [value] * 3}, "params": PARAMETERS}
    assert invoke(service, body).status in (200, 400)


def test_after_all_of_it_the_service_is_well(service: Service) -> None:
    assert b"Traceback" not in service.log.read_bytes()
    assert 'status="5' not in service.get("/metrics").content.decode()
