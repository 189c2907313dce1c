"""What a plan says of changed declarations."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.features.aggregates import count, mean, share
from flightdeck.features.materializer import Materializer
from flightdeck.features.plan import FedView, describe_change, plan_features, read_fed
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark
from flightdeck.features.view import FeatureView, Latest, OpenItems, windowed
from pipelines.features.views import VIEWS
from tests.event_streams import NOON_US, random_events, write_log

VIEW = FeatureView("airport", ("origin",), "departed", windowed(count(), mean("x"), over="30m 3h"), owner="me")


def fed(*views: FeatureView) -> dict[str, FedView]:
    return {view.digest: FedView(view, Mark(NOON_US)) for view in views}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (replace(VIEW, compute=windowed(count(), mean("x"), over="30m 7d")), ("windows: + 7d, - 3h",)),
        (replace(VIEW, compute=windowed(mean("x"), over="30m 3h")), ("aggregates: - count()",)),
        (
            replace(VIEW, compute=windowed(count(), mean("x", resolution=0.5), over="30m 3h")),
            ("aggregates: + mean(x, resolution=0.5), - mean(x)",),
        ),
        (
            replace(VIEW, compute=windowed(count(), mean("x"), share("y", ">", 3), over="30m 3h")),
            ("aggregates: + share(y, operator=>, operand=3)",),
        ),
        (replace(VIEW, compute=windowed(mean("x"), count(), over="30m 3h")), ("aggregates: another order",)),
        (replace(VIEW, entity=()), ("entity: origin -> everything",)),
        (replace(VIEW, compute=Latest(("x",))), ("kind: Windowed -> Latest",)),
        (replace(VIEW, ttl_s=60, owner="you"), ("ttl_s: 86400 -> 60", "owner: me -> you")),
        (VIEW, ()),
    ],
)
def test_a_change_is_described_in_words(after: FeatureView, words: tuple[str, ...]) -> None:
    assert describe_change(VIEW, after) == words


def test_a_plan_tells_new_from_changed_from_unchanged() -> None:
    changed = replace(VIEW, compute=windowed(count(), over="1h"))
    other = replace(VIEW, name="other", entity=("dest",))
    gone = FeatureView("gone", (), "scheduled", OpenItems(("departed",)), owner="me")
    promised = replace(VIEWS[0], freshness_slo_s=VIEWS[0].freshness_slo_s + 1)
    plan = plan_features([changed, other, promised, VIEWS[1]], fed(VIEW, gone, VIEWS[0], VIEWS[1]))
    assert [(one.view.name, one.kind) for one in plan.views] == [
        ("airport", "new version"),
        ("other", "new"),
        (VIEWS[0].name, "described anew"),
        (VIEWS[1].name, "unchanged"),
    ]
    assert plan.to_fill == (changed, other) and plan.to_describe == (promised,) and plan.others == (VIEW, gone)


def test_views_of_equal_meaning_share_states_and_are_filled_once() -> None:
    twin = replace(VIEW, name="twin")
    assert plan_features([VIEW, twin], fed(VIEW)).to_fill == ()
    assert plan_features([VIEW, twin], fed(VIEW)).views[1].changes == ("shares the states of airport",)
    assert len(plan_features([VIEW, twin], {}).to_fill) == 1


def test_a_version_that_was_declared_and_never_filled_is_filled(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    assert read_fed(store) == {}
    with store.writing() as moment:
        moment.declare(VIEW)
    found = read_fed(store)
    assert found == {VIEW.digest: FedView(VIEW, None)}
    assert plan_features([VIEW], found).views[0].changes == ("declared, never filled",)
    assert plan_features([VIEW], found).to_fill == (VIEW,)
    store.close()


@given(st.sets(st.sampled_from(range(len(VIEWS)))), st.sets(st.sampled_from(range(len(VIEWS)))))
def test_applying_a_plan_leaves_nothing_to_fill(declared: set[int], before: set[int]) -> None:
    views = [VIEWS[place] for place in declared]
    there = fed(*(VIEWS[place] for place in before))
    plan = plan_features(views, there)
    assert plan_features(views, {**there, **fed(*plan.to_fill)}).to_fill == ()
    assert {view.digest for view in plan.others} == set(there) - {view.digest for view in views}


def test_what_a_store_feeds_is_read_with_its_marks(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_events(1, 5, first_us=NOON_US - 10, last_us=NOON_US))
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, VIEWS).backfill(log, NOON_US)
    found = read_fed(store)
    assert set(found) == {view.digest for view in VIEWS}
    assert {one.mark.watermark_us for one in found.values() if one.mark} == {NOON_US}
    store.close()
