"""Keys of people: what is kept, what is refused, what two processes at once do."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from flightdeck.core.errors import ConfigError, NotFoundError
from flightdeck.inference.api_keys import digest_key
from flightdeck.release.people import Listed, People, PermissionDenied
from flightdeck.release.people_keys import (
    KeyRefused,
    identify_by_key,
    make_people_key,
    read_people_keys,
    revoke_people_keys,
)

NOW = datetime(2013, 9, 12, 12, tzinfo=UTC)
PEOPLE = People(
    "proven",
    {"reviewer": ("approve",)},
    {"Ada Lovelace": Listed(("reviewer",)), "Bob": Listed(("reviewer",)), "Eve": Listed(("reviewer",), revoked=True)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "people_keys.json"


def make(path: Path, name: str = "ada  LOVELACE", days: float = 90.0) -> str:
    return make_people_key(path, name, people=PEOPLE, now=NOW, days=days)[0]


def test_a_key_names_its_person_and_only_its_digest_is_kept(path: Path) -> None:
    key = make(path)
    [kept] = read_people_keys(path)
    assert kept.name == "Ada Lovelace"
    assert kept.digest == digest_key(key.encode()).hex()
    assert key.rsplit("_", 1)[-1] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    person = identify_by_key(path, key, people=PEOPLE, now=NOW)
    assert (person.name, person.roles, person.proof) == ("Ada Lovelace", ("reviewer",), f"key:{kept.id}")


def test_a_key_that_expired_was_revoked_or_never_was_proves_nothing(path: Path) -> None:
    key, revoked = make(path, days=1), make(path, "Bob")
    revoke_people_keys(path, "bob", NOW)
    with pytest.raises(KeyRefused, match="of Ada Lovelace is expired") as refused:
        identify_by_key(path, key, people=PEOPLE, now=NOW + timedelta(days=1))
    assert refused.value.name == "Ada Lovelace"
    with pytest.raises(KeyRefused, match="of Bob is revoked"):
        identify_by_key(path, revoked, people=PEOPLE, now=NOW)
    for guess in ("", "fp_", key[:-1], key + "x", key.upper(), "\ud800", "x" * 1_000_000):
        with pytest.raises(KeyRefused, match="is nobody's"):
            identify_by_key(path, guess, people=PEOPLE, now=NOW)


def test_the_register_decides_at_each_use(path: Path) -> None:
    key = make(path)
    gone = msgspec.structs.replace(PEOPLE, people={"Bob": Listed(("reviewer",))})
    with pytest.raises(KeyRefused, match="not in the register of people any more"):
        identify_by_key(path, key, people=gone, now=NOW)
    revoked = msgspec.structs.replace(PEOPLE, people={"Ada Lovelace": Listed(("reviewer",), revoked=True)})
    with pytest.raises(PermissionDenied, match="is revoked and decides nothing"):
        identify_by_key(path, key, people=revoked, now=NOW)
    without = msgspec.structs.replace(PEOPLE, people={"Ada Lovelace": Listed(())})
    assert identify_by_key(path, key, people=without, now=NOW).actions == frozenset()


@pytest.mark.parametrize(
    ("name", "days", "said"),
    [
        ("Ada Lovelac", 90.0, "did you mean 'Ada Lovelace'"),
        ("Eve", 90.0, "Eve is revoked"),
        ("Bob", 0.0, "days 0"),
        ("Bob", float("nan"), "days nan"),
        ("Bob", 1e9, "at most 3,650"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(path: Path, name: str, days: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(path, name, days)
    assert read_people_keys(path) == []


def test_one_key_of_several_is_revoked_by_its_id_all_by_the_name(path: Path) -> None:
    keys = [make(path) for _ in range(3)]
    [gone] = revoke_people_keys(path, keys[1].split("_")[1], NOW)
    assert [kept.state(NOW) for kept in read_people_keys(path)] == ["valid", "revoked", "valid"]
    assert gone.id == keys[1].split("_")[1]
    assert len(revoke_people_keys(path, "Ada Lovelace", NOW)) == 2
    with pytest.raises(NotFoundError, match="no valid key of 'Ada Lovelace'"):
        revoke_people_keys(path, "Ada Lovelace", NOW)


def test_a_file_that_others_may_read_or_that_is_none_is_refused(path: Path) -> None:
    key = make(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others than its owner"):
        identify_by_key(path, key, people=PEOPLE, now=NOW)
    path.chmod(0o600)
    content = json.loads(path.read_text())
    content["keys"][0]["roles"] = ["release-manager"]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="unknown field"):
        identify_by_key(path, key, people=PEOPLE, now=NOW)


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(make(path, "Bob"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {identify_by_key(path, key, people=PEOPLE, now=NOW).name for key in made} == {"Bob"}
    assert len(read_people_keys(path)) == 8
