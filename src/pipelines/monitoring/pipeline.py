"""Wiring of monitoring: prediction log + event log + champion's reference -> tables, reports, alerts, summary."""

from kedro.pipeline import Pipeline, node, pipeline

from pipelines.monitoring import judgement, nodes

SETTINGS = "params:monitoring"


def create_pipeline() -> Pipeline:
    """Return the monitoring pipeline."""
    return pipeline(
        [
            node(
                nodes.select_predictions,
                ["prediction_log", "online_watermarks", SETTINGS],
                ["recent_predictions", "as_of"],
            ),
            node(
                nodes.label_predictions,
                ["recent_predictions", "scheduled_events", "arrived_events", "cancelled_events", "as_of"],
                "labelled_predictions",
            ),
            node(nodes.measure_windows, ["labelled_predictions", SETTINGS], "monitoring_quality"),
            node(nodes.measure_days, ["labelled_predictions", "champion_reference", SETTINGS], "quality_days"),
            node(
                nodes.compare_distributions,
                ["recent_predictions", "champion_reference", SETTINGS],
                ["drift", "monitoring_drift_report"],
            ),
            node(
                nodes.audit_served_features,
                ["recent_predictions", "served_models", "event_log", SETTINGS],
                "skew_audit",
            ),
            node(nodes.take_tables, ["drift", "skew_audit"], ["monitoring_drift", "monitoring_skew"]),
            node(
                nodes.measure_ages,
                ["recent_predictions", "event_log", "online_watermarks", "as_of", SETTINGS],
                "monitoring_freshness",
            ),
            node(nodes.count_current_answers, ["recent_predictions", SETTINGS], "monitoring_serving"),
            node(
                nodes.compare_arms,
                [
                    "prediction_log",
                    "experiment_periods",
                    "scheduled_events",
                    "arrived_events",
                    "cancelled_events",
                    "as_of",
                ],
                "monitoring_experiments",
            ),
            node(
                judgement.raise_alerts,
                [
                    "recent_predictions",
                    "quality_days",
                    "champion_reference",
                    "drift",
                    "skew_audit",
                    "monitoring_freshness",
                    "as_of",
                    SETTINGS,
                ],
                ["alerts", "alert_ledger"],
            ),
            node(
                judgement.summarise,
                [
                    "labelled_predictions",
                    "champion_reference",
                    "drift",
                    "skew_audit",
                    "monitoring_freshness",
                    "alerts",
                    "as_of",
                    SETTINGS,
                ],
                "monitoring_summary",
            ),
        ]
    )
