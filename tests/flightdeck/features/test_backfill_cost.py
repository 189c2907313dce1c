from pathlib import Path

import pytest

from flightdeck.features.backfill_cost import backfill_cost, total_cost
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView, OpenItems
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_cost_counts_the_events_that_a_backfill_reads(tmp_path: Path, view: FeatureView) -> None:
    events = random_events(3, 300, first_us=NOON_US - 600 * MINUTE_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    cost = backfill_cost(log, view, NOON_US)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    done = Materializer(store, [view]).backfill(log, NOON_US)
    store.close()
    is_gauge = isinstance(view.compute, OpenItems)
    assert cost.n_events == sum(events[source].num_rows for source in view.sources) if is_gauge else done.n_events
    assert 0 < cost.n_keys <= cost.n_events and cost.n_bytes > 0 and cost.seconds > 0
    assert total_cost([cost, cost]).n_events == 2 * cost.n_events


def test_an_empty_log_costs_nothing(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_events(3, 5, first_us=NOON_US, last_us=NOON_US + MINUTE_US))
    assert backfill_cost(log, VIEWS[0], NOON_US - MINUTE_US).n_bytes == 0
