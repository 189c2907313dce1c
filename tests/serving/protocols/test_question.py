from pathlib import Path

import pytest
import yaml

from flightdeck.core.errors import ConfigError
from serving.errors import RequestRefused
from serving.protocols.question import INTEGERS, OPTIONAL, Parameters, ProtocolSettings, make_ask, read_protocols
from tests.serving.protocols.asked import ROWS


def conf(root: Path, base: object, local: object = None) -> Path:
    for name, content in (("base", base), ("local", local)):
        (root / name).mkdir()
        (root / name / "protocols.yml").write_text(yaml.safe_dump(content), "utf-8")
    return root


def test_the_project_names_a_surface() -> None:
    assert read_protocols("base").surface == "search"


def test_an_environment_overrides(tmp_path: Path) -> None:
    assert read_protocols(conf=conf(tmp_path, {"surface": "search"}, {"surface": "alerts"})).surface == "alerts"


@pytest.mark.parametrize(("base", "said"), [({"surface": "serch"}, "'search'"), ({"surfce": "x"}, "'surface'")])
def test_what_cannot_be_is_refused(tmp_path: Path, base: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {said}"):
        read_protocols(conf=conf(tmp_path, base))


def test_the_kinds_of_fields_are_those_of_the_schema() -> None:
    assert (INTEGERS, OPTIONAL) == (("flight_number", "distance_miles"), ("tailnum",))


def test_without_a_configured_surface_a_request_has_to_name_one() -> None:
    def where(row: str, field: str) -> str:
        return f"{row}{field}"

    nameless = ProtocolSettings()
    with pytest.raises(RequestRefused) as found:
        make_ask(ROWS, None, nameless, "request-1", where, "params")
    assert (found.value.status, [at for at, _ in found.value.violations]) == (400, ["params.surface"])
    ask = make_ask(ROWS, Parameters(surface="alerts"), nameless, "request-1", where, "params")
    assert (ask.surface, ask.unit_id, len(ask.flights)) == ("alerts", "request-1", 3)
