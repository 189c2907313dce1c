"""Wiring of ingestion: sources -> accepted and quarantined rows -> events in the log -> report."""

from kedro.pipeline import Pipeline, node, pipeline

from pipelines.ingestion import nodes

SOURCES = ("flights", "weather", "planes", "airports")
STREAMS = ("scheduled", "departed", "arrived", "cancelled", "weather_observed")


def create_pipeline() -> Pipeline:
    """Return the ingestion pipeline."""
    return pipeline(
        [
            node(nodes.check_airports, ["raw_airports", "params:ingestion"], ["airports", "quarantined_airports"]),
            node(nodes.check_planes, "raw_planes", ["planes", "quarantined_planes"]),
            node(
                nodes.check_flights,
                ["raw_flights", "airports", "params:ingestion"],
                ["flights", "quarantined_flights"],
            ),
            node(nodes.check_weather, ["raw_weather", "params:ingestion"], ["weather", "quarantined_weather"]),
            node(nodes.scheduled_events, "flights", "scheduled_events"),
            node(nodes.departed_events, "flights", "departed_events"),
            node(nodes.arrived_events, "flights", "arrived_events"),
            node(nodes.cancelled_events, "flights", "cancelled_events"),
            node(nodes.weather_events, "weather", "weather_observed_events"),
            node(
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
