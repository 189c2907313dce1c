"""Wiring of the gate: draft bundle and champion -> verdict."""

from kedro.pipeline import Pipeline, node, pipeline

from pipelines.evaluation import nodes


def create_pipeline() -> Pipeline:
    """Return the evaluation pipeline."""
    return pipeline(
        [
            node(nodes.current_champion, "draft_bundle", "current_champion", name="current_champion"),
            node(
                nodes.evaluate,
                ["draft_bundle", "data_versions", "current_champion", "params:evaluation", "params:release"],
                "gate_verdict",
                name="evaluate",
            ),
        ]
    )
