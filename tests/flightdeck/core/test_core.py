"""The small things that everything else leans on."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.clock import EPOCH, SystemClock, VirtualClock, from_us, to_us
from flightdeck.core.columns import Output, column_function
from flightdeck.core.config import cast_config, read_config
from flightdeck.core.errors import ConfigError, FlightdeckError, GateFailed, some
from flightdeck.core.files import write_atomically, write_json
from flightdeck.core.identifiers import canonical_json, digest_bytes, digest_file, digest_json, fingerprint
from flightdeck.core.layout import PROJECT, layout


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threshold: float
    owner: str = "me"


@given(st.integers(-(10**15), 10**16))
def test_microseconds_are_exact(at_us: int) -> None:
    assert to_us(from_us(at_us)) == at_us


def test_event_time_never_runs_backwards() -> None:
    clock = VirtualClock(EPOCH)
    clock.advance_to(EPOCH + timedelta(seconds=5))
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance_to(EPOCH)
    assert clock.now() == EPOCH + timedelta(seconds=5) < SystemClock().now()


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'treshold' \(did you mean 'threshold'\?\)"):
        cast_config({"treshold": 1.0}, Limits, where="here")


@pytest.mark.parametrize("content", ["threshold: high", "owner: me", "[1, 2", "just text", ""])
def test_a_configuration_that_does_not_fit_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "limits.yml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"limits\.yml"):
        read_config(path, Limits)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_config(tmp_path / "none.yml", Limits)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_digests_depend_on_content_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_file(tmp_path / "f") == digest_bytes(b"abc")
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1}) != digest_json({"a": 1, "b": 3})
    assert canonical_json("é") == '"é"'.encode()


def documented() -> Callable[[float], float]:
    def step(value: float) -> float:
        """Say something."""
        # and explain it
        return value + 1

    return step


def bare() -> Callable[[float], float]:
    def step(value: float) -> float:
        return value + 1

    return step


def changed() -> Callable[[float], float]:
    def step(value: float) -> float:
        return value + 2

    return step


def test_a_fingerprint_is_what_a_function_does() -> None:
    prints = [fingerprint(make()) for make in (documented, bare, changed)]
    assert prints[0] == prints[1] != prints[2]


def test_two_column_functions_cannot_make_the_same_column() -> None:
    @column_function(Output("only_in_this_test", "none", 0, 1))
    def first(a: float) -> tuple[float]:
        return (a,)

    with pytest.raises(ValueError, match="already an output"):

        @column_function(Output("only_in_this_test", "none", 0, 1))
        def second(a: float) -> tuple[float]:
            return (a,)

    with pytest.raises(ValueError, match="at least one output"):
        column_function()(first)


def test_messages_say_what_to_do_and_carry_their_exit_code() -> None:
    error = FlightdeckError("what happened", next_step="what to do")
    assert str(error) == "what happened\n  next step: what to do"
    assert (error.exit_code, GateFailed("no").exit_code) == (1, 3)
    assert some(["a"] * 7) == "a, a, a, a, a and 2 more"


def test_the_data_root_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLIGHTDECK_DATA", raising=False)
    assert layout().root == PROJECT / "data"
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    assert layout().ledger.is_relative_to(tmp_path)
