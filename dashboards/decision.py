"""The form with which a person decides about a version: approve, reject, freeze, let go on, roll back.

It calls the same commands as the command line, with the digest and the version that were shown; what they refuse is
shown in their words. Who decides is established when the button is pressed, not when the form is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from dashboards.identity import logged_in_person, login_name, show_login
from dashboards.panels import show_error
from dashboards.releases import Decisions
from dashboards.wording import plain
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.gates.policy import read_policies
from flightdeck.release import commands, rollout_commands
from flightdeck.release.decisions import record_refusal
from flightdeck.release.moves import legal_moves
from flightdeck.release.people import STATED, People, PermissionDenied, Person, read_people
from flightdeck.release.stages import VersionState

DONE, REFUSED = "decision_done", "decision_refused"
STATED_TRUST = (
    "This dashboard runs on loopback and has no login: a name is taken at its word, and the record says so. "
    "The decision is bound to the digest shown here and stays in the ledger."
)
PROVEN_TRUST = (
    "Your login is the proof of your name; the record says which. "
    "The decision is bound to the digest shown here and stays in the ledger."
)


@dataclass(frozen=True)
class Move:
    """A button of the form.

    Parameters
    ----------
    label, icon, help
        How it looks and what it does.
    said
        What was done, as a participle.
    """

    label: str
    icon: str
    help: str
    said: str


MOVES: Mapping[str, Move] = {
    "approve": Move("Approve", ":material/check:", "Your consent to this bundle under the present policy.", "approved"),
    "reject": Move("Reject", ":material/close:", "For good.", "rejected"),
    "freeze": Move("Freeze", ":material/ac_unit:", "It stays where it is until a person lets it go on.", "frozen"),
    "thaw": Move("Let go on", ":material/play_arrow:", "Its evidence is collected anew.", "let go on"),
    "rollback": Move("Roll back", ":material/undo:", "Takes it out of traffic at once.", "taken out"),
}


def show_decision(decisions: Decisions, version: VersionState, where: Layout) -> None:
    """Show the form, and what became of the last decision."""
    people = read_people(PROJECT / "conf")
    is_stated = people.authentication == STATED
    st.markdown("### Decide")
    _show_outcome(version)
    person = None if is_stated else show_login(people)
    legal = [move for move in MOVES if move in legal_moves(decisions.state, version.version)]
    allowed = [move for move in legal if is_stated or (person is not None and move in person.actions)]
    if not legal:
        st.markdown(
            f"Version {version.version} is in **{version.stage.replace('_', ' ')}**: nothing is left to decide here."
        )
    elif person is not None and len(allowed) < len(legal):
        st.markdown(_why_not(person, [move for move in legal if move not in allowed]))
    if allowed:
        _show_form(decisions, version, where, allowed, asks_name=is_stated)
    st.caption(STATED_TRUST if is_stated else PROVEN_TRUST)


def carry_out(name: str, by: Person, decisions: Decisions, version: VersionState, where: Layout, reason: str) -> None:
    """Let a person make a move of `MOVES` with the version that was shown.

    Raises
    ------
    ReleaseRefused
        Whatever the command refuses.
    """
    ledger, number = decisions.ledger, version.version
    if name == "approve":
        commands.approve(
            ledger,
            number,
            by=by,
            policies=read_policies(PROJECT / "conf"),
            bundles=where.bundles,
            reason=reason,
            seen_digest=version.digest,
        )
    elif name == "reject":
        commands.reject(ledger, number, by=by, reason=reason)
    elif name == "freeze":
        rollout_commands.freeze(ledger, number, by=by, reason=reason)
    elif name == "thaw":
        rollout_commands.thaw(ledger, number, by=by, reason=reason)
    else:
        commands.rollback(ledger, by=by, reason=reason, bundles=where.bundles, only=number)


def _show_form(
    decisions: Decisions, version: VersionState, where: Layout, allowed: list[str], *, asks_name: bool
) -> None:
    seq = decisions.state.seq
    with st.form(f"decide-{version.version}-{seq}", border=False, enter_to_submit=False):
        if asks_name:
            st.text_input("Your name", max_chars=200, placeholder="Ada Lovelace", key="decided_by")
        st.text_area("Reason", max_chars=2000, height=90, placeholder="What convinced you", key=f"reason-{seq}")
        with st.container(horizontal=True):
            for name in allowed:
                move = MOVES[name]
                st.form_submit_button(
                    move.label,
                    type="primary" if name == "approve" else "secondary",
                    icon=move.icon,
                    help=move.help,
                    on_click=_decide,
                    args=(name, decisions, version, where),
                )


def _why_not(person: Person, moves: list[str]) -> str:
    """Return why a person has no button for some legal moves."""
    named = " or ".join([", ".join(moves[:-1]), moves[-1]] if len(moves) > 1 else moves)
    has = f"as {plain(', '.join(person.roles))}" if person.roles else "without a role"
    return (
        f":orange-badge[:material/lock: not yours] {plain(person.name)}, {has}, may not {named}. "
        "Ask somebody whose role allows it."
    )


def _show_outcome(version: VersionState) -> None:
    done_version, said = st.session_state.get(DONE, (None, ""))
    if done_version == version.version:
        st.success(said, icon=":material/check_circle:")
    refused = st.session_state.pop(REFUSED, None)
    if isinstance(refused, FlightdeckError):
        show_error(refused)
    elif refused:
        st.error(refused, icon=":material/error:")


def _decide(name: str, decisions: Decisions, version: VersionState, where: Layout) -> None:
    """Carry out a decision; runs before the page is drawn anew."""
    people = read_people(PROJECT / "conf")
    is_stated = people.authentication == STATED
    reason = str(st.session_state.get(f"reason-{decisions.state.seq}", ""))
    by = str(st.session_state.get("decided_by", "")) if is_stated else ""
    missing = ["your name"] if is_stated and not by.strip() else []
    missing += [] if reason.strip() else ["a reason"]
    st.session_state.pop(DONE, None)
    if missing:
        st.session_state[REFUSED] = f"A decision needs {' and '.join(missing)}: both are kept in the ledger."
        return
    try:
        person = _established(people, by, name, decisions, version)
        carry_out(name, person, decisions, version, where, reason)
    except FlightdeckError as error:
        st.session_state[REFUSED] = error
        return
    st.session_state[DONE] = (version.version, _said(name, version, person))


def _established(people: People, by: str, what: str, decisions: Decisions, version: VersionState) -> Person:
    """Return the person who presses the button; a refusal is recorded."""
    claims = {} if people.authentication == STATED else st.user.to_dict()
    try:
        return people.identify(by) if people.authentication == STATED else logged_in_person(people, claims)
    except PermissionDenied as error:
        record_refusal(decisions.ledger, version.version, by or login_name(claims), what, error)
        raise


def _said(name: str, version: VersionState, by: Person) -> str:
    """Return what was done and what follows from it."""
    said = f"Version {version.version} {MOVES[name].said} by {plain(by.name)}."
    if name == "approve":
        return f"{said} Next: `kedro release promote {version.version}`"
    return f"{said} MLflow's alias follows with the next release command." if name in ("reject", "rollback") else said
