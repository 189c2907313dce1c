"""Deciding on the releases page: which buttons there are, what they do, whose approvals count."""

from datetime import timedelta

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.identity import logged_in_person
from dashboards.releases import approvals_sentence, approvals_table, evidence_badge
from flightdeck.core.clock import SystemClock, VirtualClock
from flightdeck.core.layout import Layout
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.people import Listed, People, PermissionDenied
from tests import release_desk as commands
from tests.dashboards.conftest import OpenPage, texts
from tests.dashboards.data_root import CANDIDATE, DAY
from tests.release_desk import PEOPLE, POLICIES

MEDIUM = POLICIES.tier("medium")
PROVEN = People("proven", {"reviewer": ("approve",)}, {"Ada": Listed(("reviewer",), ("sub-ada", "ada@example.org"))})


def now_s() -> float:
    return SystemClock().now().timestamp()


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def press(app: AppTest, label: str) -> AppTest:
    app.text_input(key="decided_by").set_value("Mary")
    app.text_area[0].set_value("because")
    app = next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def test_a_canary_is_frozen_let_go_on_and_taken_out(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles)
    commands.bring(ledger, CANDIDATE, "canary", by="Bob", bundles=where.bundles)
    app = open_page("releases")
    assert labels(app) == ["Approve", "Freeze", "Roll back"]
    app = press(app, "Freeze")
    assert "Version 2 frozen by Mary" in texts(app)
    assert labels(app) == ["Let go on", "Roll back"]
    assert "nothing moves it on until a person does" in texts(app)
    app = press(app, "Let go on")
    assert current_state(ledger).versions[CANDIDATE].stage == "canary"
    app = press(app, "Roll back")
    assert "Version 2 taken out by Mary" in texts(app)
    assert current_state(ledger).canary is None
    actions = [(record.action, record.detail["proof"]) for record in ledger.records()[-3:]]
    assert actions == [("frozen", "stated"), ("thawed", "stated"), ("rolled_back", "stated")]


def test_a_rollback_takes_out_what_was_shown_or_nothing(open_page: OpenPage, where: Layout, ledger: Ledger) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles)
    commands.bring(ledger, CANDIDATE, "prod", by="Bob", bundles=where.bundles)
    app = open_page("releases")
    commands.rollback(ledger, by="Eve", bundles=where.bundles)
    app = press(app, "Roll back")
    assert "Rolling back: version 1 is the first champion" in texts(app)
    assert current_state(ledger).champion == 1


def test_an_approval_says_until_when_it_counts_and_why_it_does_not(where: Layout, ledger: Ledger) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles)
    later = VirtualClock(DAY + timedelta(hours=100))
    commands.approve(open_ledger(where.ledger, later), CANDIDATE, by="Bob", bundles=where.bundles)
    version = current_state(ledger).versions[CANDIDATE]

    def counts(people: People, after_h: float) -> list[str]:
        return list(approvals_table(version, MEDIUM, people, DAY + timedelta(hours=after_h))["Counts"])

    assert ["yes" in said for said in counts(PEOPLE, 101)] == [True, True]
    ada, bob = counts(PEOPLE, 169)
    assert "it expired at" in ada and "yes" in bob
    revoked = msgspec.structs.replace(PEOPLE, people={**PEOPLE.people, "Bob": Listed(("reviewer",), revoked=True)})
    ada, bob = counts(revoked, 169)
    assert "the person is revoked" in bob
    said = approvals_sentence(version, MEDIUM, revoked, DAY + timedelta(hours=169))
    assert said == "0 of 1 needed in tier medium; missing: 1 more"


def test_the_judge_is_shown_with_what_it_rests_on(where: Layout, ledger: Ledger) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles)
    commands.bring(ledger, CANDIDATE, "canary", by="Bob", bundles=where.bundles)
    assert "nothing yet" in evidence_badge(current_state(ledger).versions[CANDIDATE])
    commands.show_evidence(ledger, CANDIDATE, "fail")
    assert evidence_badge(current_state(ledger).versions[CANDIDATE]).startswith(":red-badge[:material/close: fail]")


def test_a_login_is_known_by_its_subject_or_a_verified_address() -> None:
    claims = {"is_logged_in": True, "sub": "sub-ada", "iat": now_s()}
    assert logged_in_person(PROVEN, claims).proof == "login:sub-ada"
    by_address = {"is_logged_in": True, "sub": "x", "email": "ada@example.org", "email_verified": True, "iat": now_s()}
    assert logged_in_person(PROVEN, by_address).proof == "login:ada@example.org"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_logged_in": False}, "nobody is logged in"),
        ({"sub": "x", "email": "ada@example.org", "email_verified": False}, "nobody has the login x"),
        ({"sub": "x", "email": "ada@example.org", "email_verified": "true"}, "nobody has the login x"),
        ({"sub": "x", "email": "ada@example.org"}, "nobody has the login x"),
        ({"sub": ""}, "nobody has the login"),
        ({"iat": None}, "a login decides for 12 h"),
        ({"iat": "now"}, "a login decides for 12 h"),
        ({"iat": 0}, "a login decides for 12 h"),
    ],
)
def test_other_claims_name_nobody(change: dict[str, object], said: str) -> None:
    with pytest.raises(PermissionDenied, match=said):
        logged_in_person(PROVEN, {"is_logged_in": True, "sub": "sub-ada", "iat": now_s(), **change})
