import logging
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.clock import EPOCH, VirtualClock
from flightdeck.core.errors import ConfigError
from flightdeck.inference.api_keys import add_key, plan_key, revoke_key
from serving.access import ANYONE, NOBODY, Access, Grant
from serving.errors import RequestRefused
from serving.guard import OPERATE, PREDICT
from serving.metrics import Metrics

NOW = EPOCH + timedelta(days=20_000)
SURFACES = ("search", "alerts")


class Desk:
    """A file of keys, and an access that reads it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "keys.json"
        self.clock = VirtualClock(NOW)
        self.metrics = Metrics()

    def add(self, name: str = "ada", role: str = "predict", **more: object) -> str:
        key, kept = plan_key(name, role, now=NOW, known_surfaces=SURFACES, **more)  # type: ignore[arg-type]
        add_key(self.path, kept, NOW)
        return key

    def access(self, n_workers: int = 1, *, is_required: bool = True) -> Access:
        return Access(self.path, self.clock, self.metrics, is_required=is_required, n_workers=n_workers)

    def counted(self, why: str, key_id: str) -> float | None:
        return self.metrics.registry.get_sample_value("flightdeck_access_refused_total", {"why": why, "key": key_id})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


def refusal(access: Access, headers: dict[bytes, bytes], roles: frozenset[object] = PREDICT) -> RequestRefused:
    with pytest.raises(RequestRefused) as found:
        access.admit(headers, roles)  # type: ignore[arg-type]
    return found.value


def test_a_key_is_taken_from_either_header(desk: Desk) -> None:
    key = desk.add()
    access = desk.access()
    for headers in (
        bearer(key),
        {b"authorization": b"bEaReR " + key.encode()},
        {b"x-api-key": key.encode()},
        {b"x-api-key": key.encode(), b"authorization": b"Basic eDp5"},
    ):
        assert access.admit(headers, PREDICT).key_id == key[3:11]


def test_every_wrong_key_has_the_same_answer(desk: Desk) -> None:
    key, other = desk.add(), desk.add("bob")
    access = desk.access()
    wrong = [
        "",
        key[:-1],
        key + "x",
        key[:-1] + ("a" if key[-1] != "a" else "b"),
        key[:11] + other[11:],
        key.replace(key[3:11], "zzzzzzzz"),
        key.upper(),
        "x" * 60_000,
    ]
    answers = [refusal(access, headers).response().body for headers in ({}, *map(bearer, wrong))]
    answers += [refusal(access, {b"authorization": key.encode()}).response().body]
    assert len(set(answers)) == 1
    assert refusal(access, {}).status == 401
    assert refusal(access, {}).headers["WWW-Authenticate"] == "Bearer"
    assert desk.counted("key", "") == len(answers) + 2


def test_the_role_must_be_right(desk: Desk) -> None:
    predict, operate = desk.add(), desk.add("prometheus", "operate")
    access = desk.access()
    assert access.admit(bearer(operate), OPERATE).key_id == operate[3:11]
    assert refusal(access, bearer(operate)).status == 403
    assert refusal(access, bearer(predict), OPERATE).status == 403
    assert desk.counted("role", predict[3:11]) == 1


def test_a_surface_must_be_allowed(desk: Desk) -> None:
    key = desk.add(surfaces=["search"])
    access = desk.access()
    grant = access.admit(bearer(key), PREDICT)
    access.check_surface(grant, "search")
    with pytest.raises(RequestRefused) as found:
        access.check_surface(grant, "alerts")
    assert (found.value.status, desk.counted("surface", key[3:11])) == (403, 1)
    access.check_surface(ANYONE, "alerts")


def test_a_rate_is_refused_with_the_time_to_come_back(desk: Desk) -> None:
    key = desk.add(rate_per_s=0.01, burst=3)
    access = desk.access()
    for _ in range(3):
        access.admit(bearer(key), PREDICT)
    found = refusal(access, bearer(key))
    assert found.status == 429 and 90 <= int(found.headers["Retry-After"]) <= 100
    assert desk.counted("rate", key[3:11]) == 1


def test_a_wrong_role_costs_nothing_of_the_rate(desk: Desk) -> None:
    key = desk.add(rate_per_s=0.01)
    access = desk.access()
    assert refusal(access, bearer(key), OPERATE).status == 403
    access.admit(bearer(key), PREDICT)


@given(
    rate_per_s=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    waits_s=st.lists(st.floats(0, 5), min_size=1, max_size=100),
)
def test_no_time_sees_more_than_rate_and_burst(rate_per_s: float, burst: int, waits_s: list[float]) -> None:
    grant = Grant("x", PREDICT, rate_per_s=rate_per_s, burst=burst)
    now_s, taken = 1000.0, 0
    for wait_s in waits_s:
        now_s += wait_s
        left_s = grant.take(now_s)
        taken += left_s == 0
        assert 0 <= left_s <= 1 / rate_per_s + 1e-9
    assert 1 <= taken <= burst + rate_per_s * (now_s - 1000) + 1e-6


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    grant = Grant("x", PREDICT, rate_per_s=3, burst=2)
    assert grant.take(0) == grant.take(0) == 0
    left_s = grant.take(0)
    assert left_s > 0 and grant.take(left_s + 1e-9) == 0


def test_workers_share_a_rate(desk: Desk) -> None:
    key = desk.add(rate_per_s=0.04, burst=8)
    access = desk.access(n_workers=4)
    for _ in range(2):
        access.admit(bearer(key), PREDICT)
    assert int(refusal(access, bearer(key)).headers["Retry-After"]) > 90


def test_what_changes_in_the_file_is_known_after_a_look(desk: Desk) -> None:
    key = desk.add()
    access = desk.access()
    later = desk.add("bob", rate_per_s=0.01)
    assert refusal(access, bearer(later)).status == 401
    access.look()
    access.admit(bearer(later), PREDICT)
    revoke_key(desk.path, "ada", NOW)
    access.look()
    assert refusal(access, bearer(key)).status == 401
    assert refusal(access, bearer(later)).status == 429, "a change of the file fills no bucket"


def test_a_key_expires_without_a_change_of_the_file(desk: Desk) -> None:
    key = desk.add(days=1)
    access = desk.access()
    access.admit(bearer(key), PREDICT)
    desk.clock.advance_to(NOW + timedelta(days=1))
    access.look()
    assert refusal(access, bearer(key)).status == 401


@pytest.mark.parametrize("content", [b"{", None])
def test_a_damaged_file_changes_nothing(desk: Desk, content: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    key = desk.add(days=1)
    access = desk.access()
    if content is None:
        desk.path.unlink()
    else:
        desk.path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            access.look()
    assert [("go on" in record.message) for record in caplog.records] == [True]
    access.admit(bearer(key), PREDICT)
    desk.clock.advance_to(NOW + timedelta(days=1))
    access.look()
    assert refusal(access, bearer(key)).status == 401
    desk.path.unlink(missing_ok=True)
    fresh = desk.add("bob")
    access.look()
    access.admit(bearer(fresh), PREDICT)


def test_a_damaged_file_is_no_start(desk: Desk) -> None:
    desk.path.write_bytes(b"{")
    with pytest.raises(ConfigError, match="reading the API keys"):
        desk.access()


def test_where_no_key_is_required_none_is_looked_at(desk: Desk) -> None:
    desk.path.write_bytes(b"{")
    access = desk.access(is_required=False)
    access.look()
    assert access.admit({}, OPERATE) is ANYONE
    assert access.recognise({}) is ANYONE


def test_probes_are_recognised_and_never_refused(desk: Desk) -> None:
    key = desk.add("prometheus", "operate", rate_per_s=0.01)
    access = desk.access()
    assert access.recognise({}) is access.recognise(bearer("x" * len(key))) is NOBODY
    assert all(access.recognise(bearer(key)).key_id == key[3:11] for _ in range(5))
