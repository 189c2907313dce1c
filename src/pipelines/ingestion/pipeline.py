"""Wiring of ingestion: sources -> accepted and quarantined rows -> events in the log -> report."""

from kedro.pipeline import Pipeline, pipeline

from pipelines.ingestion import nodes
from pipelines.wiring import step

SOURCES = ("flights", "weather", "planes", "airports")
STREAMS = ("scheduled", "departed", "arrived", "cancelled", "weather_observed")


def create_pipeline() -> Pipeline:
    """Return the ingestion pipeline."""
    return pipeline(
        [
            step(nodes.check_airports, ["raw_airports", "params:ingestion"], ["airports", "quarantined_airports"]),
            step(nodes.check_planes, "raw_planes", ["planes", "quarantined_planes"]),
            step(
                nodes.check_flights,
                ["raw_flights", "airports", "params:ingestion"],
                ["flights", "quarantined_flights"],
            ),
            step(nodes.check_weather, ["raw_weather", "params:ingestion"], ["weather", "quarantined_weather"]),
            step(nodes.scheduled_events, "flights", "scheduled_events"),
            step(nodes.departed_events, "flights", "departed_events"),
            step(nodes.arrived_events, "flights", "arrived_events"),
            step(nodes.cancelled_events, "flights", "cancelled_events"),
            step(nodes.weather_events, "weather", "weather_observed_events"),
            step(
                nodes.ingestion_report,
                [
                    *(f"raw_{source}" for source in SOURCES),
                    *(f"quarantined_{source}" for source in SOURCES),
                    *(f"{stream}_events" for stream in STREAMS),
                ],
                "ingestion_report",
            ),
        ]
    )
