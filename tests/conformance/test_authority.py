"""Every role meets every command: what conf/base/people.yml does not allow is refused and recorded."""

import inspect
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml
from click.testing import CliRunner

from dashboards.decision import MOVES
from flightdeck.cli import release as cli
from flightdeck.cli import release_options, release_people, release_rollout, release_routes
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.release import commands, order_entry, rollout_commands, route_commands
from flightdeck.release.people import ACTIONS, People, PermissionDenied, Person, read_people
from flightdeck.release.people_keys import make_people_key
from tests.conformance.authority import (
    ACTS,
    CANARY,
    CHAMPION,
    FRESH,
    FROZEN,
    STAGED,
    House,
    press,
    write_house,
)

RAW = yaml.safe_load((PROJECT / "conf/base/people.yml").read_text(encoding="utf-8"))
MAY = {role: frozenset(actions) for role, actions in RAW["roles"].items()} | {"nobody": frozenset[str]()}
ROLES = sorted(MAY)
DESKS = (commands, rollout_commands, route_commands, order_entry)
BUTTONS = {"approve": FRESH, "reject": FRESH, "freeze": CANARY, "thaw": FROZEN, "rollback": CANARY}
CLI: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "approve": (("approve",), [str(FRESH)]),
    "promote": (("promote",), [str(FRESH)]),
    "reject": (("reject",), [str(FRESH), "--reason", "w"]),
    "rollback": (("rollback",), []),
    "freeze": (("freeze",), [str(CANARY), "--reason", "w"]),
    "thaw": (("thaw",), [str(FROZEN), "--reason", "w"]),
    "rehearse": (("rehearse",), [str(FRESH)]),
    "supersede": (("supersede",), [str(CANARY), "--newer", str(FRESH)]),
    "review": (("review",), [str(CHAMPION), "--reason", "w"]),
    "revoke": (("revoke_approval",), [str(STAGED), "--approval-of", "Grace Hopper", "--reason", "w"]),
    "tier": (("change_tier",), [str(FRESH), "high", "--reason", "w"]),
    "route shadow add": (("route",), [str(STAGED), "--share", "0.2"]),
    "route shadow remove": (("route",), [str(STAGED)]),
    "route experiment add": (("route",), ["e", "--arm", f"a={STAGED}:0.1", "--arm", f"b={CHAMPION}:0.1"]),
    "route experiment share": (("route",), ["e", "a", "--share", "0.2"]),
    "route experiment remove": (("route",), ["e"]),
    "route segment add": (("route",), ["s", "--where", "origin=EWR"]),
    "route segment canary": (("route",), ["s", str(STAGED)]),
    "route segment promote": (("route",), ["s"]),
    "route segment rollback": (("route",), ["s"]),
    "route segment remove": (("route",), ["s"]),
}
NEEDS_A_ROUTE = {
    "route shadow remove": ["route shadow add"],
    "route experiment share": ["route experiment add"],
    "route experiment remove": ["route experiment add"],
    "route segment canary": ["route segment add"],
    "route segment promote": ["route segment add", "route segment canary"],
    "route segment rollback": ["route segment add", "route segment canary"],
    "route segment remove": ["route segment add"],
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house") / "data"
    write_house(root)
    return root


@pytest.fixture
def fresh_house(prepared: Path, tmp_path: Path) -> Callable[[], House]:
    """Return a function that makes another copy of the house."""
    copies = (tmp_path / f"copy-{number}" for number in range(1000))

    def fresh_house() -> House:
        root = next(copies)
        shutil.copytree(prepared, root)
        return House(Layout(root))

    return fresh_house


def person_of(role: str) -> Person:
    return Person(f"one {role}", (role,) if role in RAW["roles"] else (), MAY[role])


def may(role: str, needs: tuple[str, ...]) -> bool:
    return set(needs) <= MAY[role]


def require_refusal(house: House, act: Callable[[], object], who: str) -> None:
    """Check that a call is refused, and that the refusal is all that it left."""
    before = house.ledger.head()
    with pytest.raises(PermissionDenied):
        act()
    left = house.ledger.records(before) if before else house.ledger.records()
    assert [(record.action, record.actor) for record in left] == [("refused", who)]


@pytest.mark.parametrize("name", ACTS)
def test_a_command_is_carried_out_for_the_roles_that_may_and_for_no_other(
    name: str, fresh_house: Callable[[], House]
) -> None:
    act, refusing = ACTS[name], fresh_house()
    for role in ROLES:
        by = person_of(role)
        if may(role, act.needs):
            house = fresh_house()
            before = house.ledger.head()
            act.call(house, by)
            [record] = house.ledger.records(before)
            assert (record.actor, record.detail["proof"]) == (by.name, "stated")
        else:
            require_refusal(refusing, lambda by=by: act.call(refusing, by), by.name)  # type: ignore[misc]


@pytest.mark.parametrize(("move", "role"), list(product(MOVES, ROLES)))
def test_a_button_of_the_dashboard_does_what_the_role_may(
    move: str, role: str, fresh_house: Callable[[], House]
) -> None:
    house, by = fresh_house(), person_of(role)
    if may(role, (move,)):
        before = house.ledger.head()
        press(house, move, BUTTONS[move], by)
        assert [record.actor for record in house.ledger.records(before)] == [by.name]
    else:
        require_refusal(house, lambda: press(house, move, BUTTONS[move], by), by.name)


def test_every_permission_is_asked_for_by_a_command_and_every_role_names_permissions_that_exist() -> None:
    asked = {need for act in ACTS.values() for need in act.needs}
    assert set(ACTIONS) - asked == set()
    assert {action for actions in MAY.values() for action in actions} <= set(ACTIONS)


def commands_of_people(module: ModuleType) -> Iterator[Callable[..., object]]:
    for name, found in inspect.getmembers(module, inspect.isfunction):
        is_own = found.__module__ == module.__name__ and not name.startswith("_")
        if is_own and any(
            parameter.annotation in (Person, "Person") for parameter in inspect.signature(found).parameters.values()
        ):
            yield found


def test_no_command_is_left_out() -> None:
    found = {command for module in DESKS for command in commands_of_people(module)}
    assert found == {act.command for act in ACTS.values()}


# the command line, where everybody shows a key


@pytest.fixture
def proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    """Let the house ask for proof, with one person a role."""
    conf = tmp_path / "project" / "conf"
    shutil.copytree(PROJECT / "conf", conf)
    people = {f"one {role}": {"roles": [role]} for role in RAW["roles"]} | {"one nobody": {"roles": []}}
    people["Grace Hopper"] = {"roles": ["reviewer"]}
    register = {"authentication": "proven", "roles": RAW["roles"], "people": people}
    (conf / "base/people.yml").write_text(yaml.safe_dump(register), encoding="utf-8")
    for module in (cli, release_options, release_rollout, release_routes, release_people):
        monkeypatch.setattr(module, "PROJECT", conf.parent)
    monkeypatch.delenv("FLIGHTDECK_PERSON", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return read_people(conf)


def run(house: House, name: str, monkeypatch: pytest.MonkeyPatch, key: str | None, *more: str) -> tuple[int, str]:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(house.where.root))
    monkeypatch.setenv("FLIGHTDECK_KEY", key or "")
    result = CliRunner().invoke(cli.release, [*name.split(), *CLI[name][1], *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def key_of(house: House, who: str, people: People) -> str:
    return make_people_key(house.where.people_keys, who, people=people, now=SystemClock().now())[0]


@pytest.mark.parametrize("name", CLI)
def test_the_command_line_does_what_the_role_of_the_key_may(
    name: str, fresh_house: Callable[[], House], proven: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = fresh_house()
    for role in ROLES:
        who = f"one {role}"
        key, before = key_of(house, who, proven), house.ledger.head()
        if not may(role, CLI[name][0]):
            code, said = run(house, name, monkeypatch, key)
            [record] = house.ledger.records(before)
            assert (code, record.action, record.actor) == (1, "refused", who), said
            assert f"{who} may not" in said
    code, said = run(house, name, monkeypatch, None, "--by", "one release-manager")
    assert code == 1 and "only stated" in said
    assert house.ledger.records()[-1].action == "refused"


@pytest.mark.parametrize("name", [name for name in CLI if name != "rehearse"])  # starts a service: its own test
def test_the_command_line_carries_out_what_the_role_may_and_keeps_the_proof(
    name: str, fresh_house: Callable[[], House], proven: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = next(role for role in ROLES if may(role, CLI[name][0]))
    house = fresh_house()
    key = key_of(house, f"one {role}", proven)
    for earlier in NEEDS_A_ROUTE.get(name, []):
        assert run(house, earlier, monkeypatch, key)[0] == 0
    before = house.ledger.head()
    code, said = run(house, name, monkeypatch, key)
    assert code == 0, said
    record, *_ = house.ledger.records(before)  # the reconciler may add one of its own
    assert record.actor == f"one {role}"
    assert record.detail["proof"] == f"key:{key.split('_')[1]}"


def with_name(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the commands that take a decider."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from with_name(command, (*words, name))
        elif any(parameter.name == "by" for parameter in command.params):
            yield " ".join((*words, name))


def test_no_command_of_the_command_line_is_left_out() -> None:
    assert set(with_name(cli.release)) == set(CLI)
