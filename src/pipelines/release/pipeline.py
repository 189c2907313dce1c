"""Wiring of the release: draft bundle and verdict -> release candidate."""

from kedro.pipeline import Pipeline, node, pipeline

from pipelines.release import nodes


def create_pipeline() -> Pipeline:
    """Return the release pipeline."""
    return pipeline(
        [node(nodes.enter, ["draft_bundle", "gate_verdict", "params:release"], "release_candidate", name="enter")]
    )
