import json
import re

from serving.documentation import prediction_route
from serving.guard import OPEN
from tests.serving.process import Service
from tests.serving.world import AT


def test_the_document_describes_the_body_with_units_ranges_and_an_example(service: Service) -> None:
    document = service.get("/openapi.json").json()
    operation = document["paths"]["/v1/predictions"]["post"]
    schemas = document["components"]["schemas"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictionRequest")
    assert {"200", "400", "413", "415", "422", "503"} <= set(operation["responses"])
    assert "miles" in schemas["Flight"]["properties"]["distance_miles"]["description"]
    assert schemas["PredictionRequest"]["properties"]["flights"]["maxItems"] == 500
    assert schemas["PredictionRequest"]["additionalProperties"] is False
    for mode in ("model", "fallback", "rules", "refused"):
        assert f"`{mode}`" in document["info"]["description"]


def test_every_reference_of_the_document_leads_somewhere(service: Service) -> None:
    text = service.get("/openapi.json").content.decode()
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= set(json.loads(text)["components"]["schemas"])


def test_the_example_is_answered(service: Service) -> None:
    example = prediction_route()["openapi_extra"]["requestBody"]["content"]["application/json"]["example"]
    assert service.predict({**example, "request_timestamp": AT}).status == 200


def test_the_page_needs_nothing_from_elsewhere(service: Service) -> None:
    page = service.get("/docs")
    text = page.content.decode()
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    assert "distance_miles" in text
    assert "rules" in text


def test_every_operation_says_whether_it_needs_a_key(service: Service) -> None:
    document = service.get("/openapi.json").json()
    operations = {(path, method): one for path, found in document["paths"].items() for method, one in found.items()}
    needing = {path for (path, _), operation in operations.items() if "security" in operation}
    assert needing == {path for path, _ in operations} - OPEN
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for (path, _), operation in operations.items():
        assert ({"401", "403", "429"} <= set(operation["responses"])) == (path in needing)


def test_every_protocol_is_on_the_page(service: Service) -> None:
    document = service.get("/openapi.json").json()
    text = service.get("/docs").content.decode()
    assert {"/v2/models/{name}/infer", "/invocations", "/ping"} <= set(document["paths"])
    assert [path for path in document["paths"] if f"<code>{path}</code>" not in text] == []
    assert [name for name in ("InferRequest", "Invocation") if f"id={name}>" not in text] == []
