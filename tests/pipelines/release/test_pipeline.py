"""The datasets that other pipelines and processes rely on by name."""

from pipelines.evaluation.pipeline import create_pipeline as evaluation
from pipelines.release.pipeline import create_pipeline as release


def test_names_at_the_edges() -> None:
    assert evaluation().inputs() == {"draft_bundle", "data_versions", "params:evaluation", "params:release"}
    assert evaluation().outputs() == {"gate_verdict"}
    assert release().inputs() == {"draft_bundle", "gate_verdict", "params:release"}
    assert release().outputs() == {"release_candidate"}


def test_nothing_is_sealed_without_a_verdict() -> None:
    together = (evaluation() + release()).nodes
    assert [node.name for node in together] == ["current_champion", "evaluate", "enter"]
