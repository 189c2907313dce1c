import json
import multiprocessing
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from flightdeck.core.clock import EPOCH
from flightdeck.core.errors import ConfigError, NotFoundError
from flightdeck.inference.api_keys import (
    ID_PLACE,
    KEY_CHARACTERS,
    ApiKey,
    Role,
    add_key,
    digest_key,
    plan_key,
    read_keys,
    revoke_key,
)

NOW = EPOCH + timedelta(days=20_000)
SURFACES = ("search", "alerts")


def planned(name: str = "ada", role: str = "predict", days: float | None = None) -> tuple[str, ApiKey]:
    return plan_key(name, role, now=NOW, known_surfaces=SURFACES, days=days)


def add_some(path: Path, worker: int) -> None:
    for n in range(5):
        add_key(path, planned(f"w{worker}-{n}")[1], NOW)


def test_the_file_has_the_digest_and_never_the_key(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    key, kept = planned()
    add_key(path, kept, NOW)
    text = path.read_text("utf-8")
    assert key not in text and key[ID_PLACE.stop + 1 :] not in text
    assert read_keys(path) == [kept]
    assert kept.digest == digest_key(key.encode()).hex()
    assert len(key) == KEY_CHARACTERS and key[ID_PLACE] == kept.id


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for name in ("a", "b"):
        add_key(path, planned(name)[1], NOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    revoke_key(path, "a", NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_two_keys_are_alike() -> None:
    keys = {planned()[0] for _ in range(200)}
    assert len(keys) == len({key[ID_PLACE] for key in keys}) == 200


def test_processes_that_add_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    processes = [multiprocessing.get_context("fork").Process(target=add_some, args=(path, n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read_keys(path)) == 20


def test_a_key_is_valid_until_it_expires_or_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, kept = planned(days=1)
    add_key(path, kept, NOW)
    assert [kept.state(NOW + timedelta(hours=h)) for h in (0, 23, 24)] == ["valid", "valid", "expired"]
    gone = revoke_key(path, kept.id, NOW + timedelta(hours=1))
    assert [gone.state(NOW + timedelta(hours=h)) for h in (0, 1, 48)] == ["valid", "revoked", "revoked"]
    assert read_keys(path) == [gone]


def test_a_name_is_free_again_once_its_key_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, planned()[1], NOW)
    with pytest.raises(ConfigError, match="a valid key has the name 'ada'"):
        add_key(path, planned()[1], NOW)
    revoke_key(path, "ada", NOW)
    add_key(path, planned()[1], NOW)
    assert [key.state(NOW) for key in read_keys(path)] == ["revoked", "valid"]


def test_a_key_that_is_not_there_is_not_revoked(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", planned()[1], NOW)
    with pytest.raises(NotFoundError, match="did you mean 'ada'"):
        revoke_key(tmp_path / "keys.json", "adda", NOW)


def test_everything_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigError) as found:
        plan_key(
            "a b", "opperate", now=NOW, known_surfaces=SURFACES, surfaces=["serch"], rate_per_s=-1, burst=0, days=-2
        )
    for part in ("'a b'", "did you mean 'operate'", "did you mean 'search'", "rate -1", "burst 0", "days -2"):
        assert part in str(found.value)


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (20.0, 20), (None, 1)])
def test_without_a_burst_it_is_that_of_a_second(rate: float | None, burst: int) -> None:
    _, kept = plan_key("ada", "predict", now=NOW, known_surfaces=SURFACES, rate_per_s=rate)
    assert (kept.role, kept.rate_per_s, kept.burst) == (Role.PREDICT, rate, burst)


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys": [{"id": "x"}]}', b'{"keys": [], "more": 1}', b"\xff"])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="reading the API keys"):
        add_key(path, planned()[1], NOW)
    assert path.read_bytes() == content


def test_no_file_has_no_keys(tmp_path: Path) -> None:
    assert read_keys(tmp_path / "keys.json") == []


def test_the_file_is_json_that_people_can_read(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", planned()[1], NOW)
    lines = (tmp_path / "keys.json").read_text("utf-8").splitlines()
    assert len(lines) > 10 and json.loads("".join(lines))["keys"][0]["name"] == "ada"
