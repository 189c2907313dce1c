"""The pages about serving say what the code does: the scale page follows from its figures, the lists are complete."""

import re

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from benchmarks.scale_serving import PAGE as SCALE_PAGE
from benchmarks.scale_serving import answered_share, rewritten
from flightdeck.core.layout import PROJECT
from flightdeck.inference import ladder, rooms, run_limit
from flightdeck.inference.budget import REASON as BUDGET
from flightdeck.inference.drill import REASON as DRILL
from flightdeck.inference.surface_policy import read_admission
from flightdeck.inference.waiting import DEADLINE, OVERLOAD
from serving import batcher, body_limit, connection, feature_source, parts, schemas, shadow, workers
from serving.__main__ import DRAIN_S
from serving.metrics import Metrics

PAGE = PROJECT / "docs/serving.md"


def test_the_table_of_the_scale_page_follows_from_its_figures() -> None:
    text = SCALE_PAGE.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run python -m benchmarks.scale_serving"
    assert rewritten(text.replace('"cpu_us_1": 96', '"cpu_us_1": 960')) != text


def test_a_core_that_refuses_half_an_answer_s_worth_answers_less_the_more_it_refuses() -> None:
    given = {"measured": {"cpu_us_1": 100.0, "refusal_cpu_us": 50.0}}
    assert [answered_share(given, load) for load in (1.0, 1.5, 2.0, 3.0)] == [1.0, 0.5, 0.0, 0.0]


def table(*, heading: str, page: str) -> dict[str, str]:
    """Return the first two cells of each row below a heading, by the first one's code."""
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return {name: cell.strip() for name, cell in re.findall(r"^\| `([^`]+)` \|([^|]*)\|", part, re.MULTILINE)}


def test_the_table_of_metrics_names_every_metric_and_its_labels() -> None:
    told = table(heading="Metrics", page=PAGE.read_text(encoding="utf-8"))
    found = [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]
    assert len(found) > 10
    assert told == {
        metric._name + ("_total" if isinstance(metric, Counter) else ""): ", ".join(metric._labelnames)
        for metric in found
    }


def test_the_tables_of_reasons_and_codes_name_every_one() -> None:
    told = table(heading="The ladder, and every reason", page=PAGE.read_text(encoding="utf-8"))
    failures = {ladder.RAISED, ladder.TOO_SLOW, ladder.WRONG_SHAPE, ladder.NOT_FINITE, ladder.OUT_OF_RANGE}
    failures |= {feature_source.UNAVAILABLE, feature_source.STALE, feature_source.AHEAD}
    failures |= {OVERLOAD, DEADLINE, BUDGET, DRILL}
    named = {name.removeprefix("<rung>:") for name in told if name.startswith("<rung>:")}
    assert named == failures
    codes = {code for code, _ in batcher._EXPLAINED.values()}
    codes |= set(re.findall(r'_unavailable\("(\w+)"', (PROJECT / "serving/service.py").read_text("utf-8")))
    flags = {feature_source.LATE, "unseen:<column>"}
    assert {name for name in told if not name.startswith("<rung>:")} == codes | flags


def test_figures_of_the_page_are_those_of_the_code() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    admission = read_admission(environment={})
    for said in (
        f"head within {connection.HEAD_S:.0f} s and {connection.HEAD_BYTES >> 10} KiB",
        f"body within {body_limit.MAX_BODY_S:.0f} s and {body_limit.MAX_BODY_BYTES >> 20} MiB",
        f"`turn_ms` ({admission.turn_ms:.0f} ms)",
        f"`alone_ms` ({admission.alone_ms:.0f} ms)",
        f"more than {run_limit.LIMIT_S:g} s and was ended",
        f"left alone for {run_limit.FIRST_PAUSE_S:.0f} s, later up to {run_limit.MAX_PAUSE_S:.0f} s",
        f"reads above {parts.SLOW_READ_S * 1e3:.0f} ms",
        f"{rooms.SHARES[0]:.0%} of the latency budget for `critical`, {rooms.SHARES[1]:.0%} for `normal`",
        f"{rooms.SHARES[2]:.0%} for `sheddable`, and never more than {rooms.NESTING:.0%} of the class above",
        f"At most {shadow.MAX_ITEMS:,} items wait",
        f"does not answer for {workers.UNRESPONSIVE_S} s",
        f"stuck for {workers.LOOP_STUCK_S:.0f} s",
        f"at most every {workers.MAX_RETRY_S:.0f} s",
        f"for {DRAIN_S} s at most; {workers.EXIT_S:.0f} s later",
        f"{schemas.MAX_FLIGHTS} flights",
    ):
        assert said in page
