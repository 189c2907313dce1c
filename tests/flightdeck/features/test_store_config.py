from pathlib import Path

import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import Layout
from flightdeck.features.store_config import Stores, read_stores

REDIS = "redis://127.0.0.1:6379/0"


def write(conf: Path, env: str, text: str) -> None:
    (conf / env).mkdir(parents=True, exist_ok=True)
    (conf / env / "stores.yml").write_text(text, encoding="utf-8")


def test_the_project_is_embedded_by_default(tmp_path: Path) -> None:
    found = read_stores(environment={})
    assert found == Stores() and found.online_store(Layout(tmp_path)) == tmp_path / "04_feature" / "online"


def test_an_environment_overrides_the_base_and_variables_override_both(tmp_path: Path) -> None:
    write(tmp_path, "base", "online_store: embedded\nevent_stream: embedded\n")
    write(tmp_path, "scale", f"online_store: {REDIS}\n")
    assert read_stores(conf=tmp_path, environment={}) == Stores()
    for found in (
        read_stores("scale", conf=tmp_path, environment={"KEDRO_ENV": "local"}),
        read_stores(conf=tmp_path, environment={"KEDRO_ENV": "scale"}),
        read_stores(conf=tmp_path, environment={"FLIGHTDECK_ONLINE_STORE": REDIS}),
    ):
        assert found == Stores(REDIS) and found.online_store(Layout(tmp_path)) == REDIS
    assert read_stores("scale", conf=tmp_path, environment={"FLIGHTDECK_ONLINE_STORE": "embedded"}) == Stores()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("online_stores: embedded", "online_store"),
        ("online_store: mysql://x", "redis://"),
        ("a: [", "YAML"),
        ("3", "table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "base", text)
    with pytest.raises(ConfigError) as found:
        read_stores(conf=tmp_path, environment={})
    assert said in str(found.value)


def test_an_environment_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "base", "")
    with pytest.raises(ConfigError, match="no environment 'sale'"):
        read_stores("sale", conf=tmp_path, environment={})
