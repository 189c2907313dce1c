from pathlib import Path

import pytest
from click.testing import CliRunner

from flightdeck.cli.main import commands
from flightdeck.core.layout import layout
from flightdeck.inference.api_keys import digest_key, read_keys


@pytest.fixture(autouse=True)
def data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(commands, ["serve", "keys", *words])
    return result.exit_code, result.stdout, result.stderr


def test_a_key_is_shown_once_alone_on_standard_output() -> None:
    code, out, err = run("add", "shop", "--surface", "search", "--rate", "5", "--burst", "9", "--days", "30")
    key = out.strip()
    [kept] = read_keys(layout().api_keys)
    assert code == 0 and out == f"{key}\n" and key not in err and kept.id in err
    assert kept.digest == digest_key(key.encode()).hex()
    assert (kept.name, kept.role, kept.surfaces, kept.rate_per_s, kept.burst) == ("shop", "predict", ("search",), 5, 9)
    assert kept.expires_at is not None and (kept.expires_at - kept.created_at).days == 30


def test_keys_are_listed_without_their_secrets_and_revoked_by_name() -> None:
    key = run("add", "shop")[1].strip()
    run("add", "prometheus", "--role", "operate")
    code, out, _ = run("list")
    assert code == 0 and "shop" in out and "unlimited" in out and "operate" in out and key not in out
    assert run("revoke", "shop")[:2] == (0, f"key {key[3:11]} of shop is revoked\n")
    assert "revoked" in run("list")[1]
    assert [key.revoked_at is None for key in read_keys(layout().api_keys)] == [False, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "shop", "--role", "predct"], "did you mean 'predict'"),
        (["add", "shop", "--surface", "serch"], "did you mean 'search'"),
        (["add", "prometheus", "--role", "operate", "--surface", "search"], "asks for no surface"),
        (["revoke", "shop"], "no valid key 'shop'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(words: list[str], said: str) -> None:
    code, out, err = run(*words)
    assert code == 1 and out == "" and said in err
    assert read_keys(layout().api_keys) == []
