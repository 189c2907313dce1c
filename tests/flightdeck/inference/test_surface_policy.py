from pathlib import Path

import pytest
import yaml

from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from flightdeck.inference.surface_policy import (
    AdmissionSettings,
    Criticality,
    LatencyBudget,
    SurfacePolicy,
    read_admission,
    read_surface_policies,
)

GOOD = """
alerts: {decisions: {no: 0.0}, criticality: critical, latency_budget_ms: {default: 150, least: 20, most: 2000}}
search:
  criticality: sheddable
  latency_budget_ms: {default: 300, least: 20, most: 2000}
  daily_budget: 3600
  log_rate: 0.1
"""


def write(conf: Path, text: str, env: str = "base", file: str = "surfaces.yml") -> None:
    (conf / env).mkdir(parents=True, exist_ok=True)
    (conf / env / file).write_text(text, encoding="utf-8")


def test_the_project_names_one_surface_of_each_criticality() -> None:
    found = read_surface_policies(environment={})
    order = [found[name].criticality for name in ("alerts", "itinerary", "search")]
    assert order == list(Criticality) and [criticality.level for criticality in order] == [0, 1, 2]
    assert read_admission(environment={}) == AdmissionSettings(turn_ms=2, alone_ms=40)


def test_an_environment_overrides_how_a_surface_is_operated(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "search: {log_rate: 0.5, cost_weight: 2}", "scale")
    budget = LatencyBudget(300, 20, 2000)
    assert read_surface_policies(conf=tmp_path, environment={})["search"] == SurfacePolicy(
        Criticality.SHEDDABLE, budget, 1.0, 3600, 0.1
    )
    changed = read_surface_policies(conf=tmp_path, environment={"KEDRO_ENV": "scale"})
    assert changed["search"] == SurfacePolicy(Criticality.SHEDDABLE, budget, 2.0, 3600, 0.5)
    assert changed["alerts"] == read_surface_policies(conf=tmp_path, environment={})["alerts"]


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
a: {decisions: {}, criticallity: critical, latency_budget_ms: {default: 3, leest: 1, most: 4}, log_rate: .nan}
b: {criticality: urgent, latency_budget_ms: {default: 3, least: 5, most: 4}, cost_weight: .inf, daily_budget: 0}
c: 3
""",
    )
    write(tmp_path, "aa: {log_rate: 1}\nb: {decisions: {}}\na: 1", "scale")
    with pytest.raises(ConfigError) as found:
        read_surface_policies("scale", conf=tmp_path)
    for said in (
        "unknown surface 'aa' (did you mean 'a'?)",
        "surface 'b': decisions are sealed from conf/base",
        "surface 'a' is no table",
        "unknown key 'criticallity' (did you mean 'criticality'?)",
        "surface 'a': no criticality",
        "'leest' (did you mean 'least'?)",
        "surface 'a', log_rate",
        "use one of ['critical', 'normal', 'sheddable']",
        "least 5, default 3, most 4",
        "surface 'b', cost_weight",
        "surface 'b', daily_budget",
        "surface 'c': no table",
    ):
        assert said in found.value.message


@pytest.mark.parametrize("text", ["", "a: [", "3"])
def test_a_file_without_surfaces_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match="surfaces"):
        read_surface_policies(conf=tmp_path, environment={})


@pytest.mark.parametrize(
    "text", ["turn_ms: 0", "turn_ms: 50", "alone_ms: .nan", "daily_budget: -1", "daily_budget: .inf", "turn: 3"]
)
def test_settings_that_bound_nothing_are_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, text, file="admission.yml")
    with pytest.raises(ConfigError, match=r"admission\.yml"):
        read_admission(conf=tmp_path, environment={})


def test_every_key_is_explained_where_it_is_set() -> None:
    for file, kind in (("surfaces.yml", SurfacePolicy), ("admission.yml", AdmissionSettings)):
        text = (PROJECT / "conf/base" / file).read_text(encoding="utf-8")
        assert yaml.safe_load(text)
        assert all(f"\n# {key}: " in text for key in kind.__struct_fields__)
