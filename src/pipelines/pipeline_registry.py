"""The table of contents: every pipeline of the use case by name."""

from kedro.pipeline import Pipeline

from pipelines.evaluation.pipeline import create_pipeline as evaluation
from pipelines.features.pipeline import create_pipeline as features
from pipelines.inference.pipeline import create_pipeline as inference
from pipelines.ingestion.pipeline import create_pipeline as ingestion
from pipelines.monitoring.pipeline import create_pipeline as monitoring
from pipelines.release.pipeline import create_pipeline as release
from pipelines.training.pipeline import create_pipeline as training


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; `golden` is the road from the sources to a release candidate."""
    golden = ingestion() + features() + training() + evaluation() + release()
    return {
        "ingestion": ingestion(),
        "features": features(),
        "training": training(),
        "evaluation": evaluation(),
        "release": release(),
        "inference": inference(),
        "monitoring": monitoring(),
        "golden": golden,
        "__default__": golden,
    }
