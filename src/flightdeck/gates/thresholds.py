"""What the checks of a risk tier are held against; the numbers are in `conf/base/policies.yml`."""

import msgspec


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the gate's checks; one for a family that the tier does not ask for is read by nobody.

    Parameters
    ----------
    auc_at_least
        Smallest ROC AUC, by prediction horizon in minutes (as text).
    auc_at_most
        Largest believable ROC AUC at any horizon: above it something leaks.
    ece_at_most
        Largest expected calibration error at any horizon, 15 equal-width bins.
    log_loss_gain_at_least
        Smallest gain in log loss over the fallback model and over the rules; the lower end of its interval counts.
    champion_log_loss_excess_at_most
        Largest log loss above the champion's on the same rows; the upper end of its interval counts.
    onnx_difference_at_most
        Largest absolute difference between the probability of the trained and of the exported model.
    latency_p95_ms_at_most
        95th percentile of one single-row call of the exported model, in milliseconds.
    n_months_at_least, n_rows_a_month_at_least
        How many months the test set must cover, and how many rows make a month count.
    segment_auc_at_least
        Smallest ROC AUC of any month and any segment with at least `n_rows_a_month_at_least` rows.
    segment_ece_at_most
        Largest expected calibration error of any such segment.
    slice_log_loss_excess_at_most
        Largest log loss above the champion's in any slice, in nats, by the column that slices (or `month`).
    quarantined_pct_at_most
        Largest share of a stream's events that its contract turned away, percent.
    data_age_h_at_most
        Largest age of the newest event in hours; None where it is not asked for: historic data.
    psi_at_most
        Largest population stability index of any feature between training data and reference.
    stability_auc_difference_at_most
        Largest difference of ROC AUC between two trainings that differ in nothing but the seed.
    stability_probability_difference_at_most
        Largest mean absolute difference between the probabilities of the same two.
    server_p95_ms_at_most
        95th percentile of one request to the server with this bundle, milliseconds.
    bundle_mb_at_most
        Largest size of the bundle, MB of a million bytes.
    server_rss_mb_at_most
        Largest resident memory of the server with this bundle, MB of a million bytes.
    served_difference_at_most
        Largest absolute difference between a probability served and the one computed offline.
    advisory
        Names of the checks that inform without stopping the release.
    """

    auc_at_least: dict[str, float]
    auc_at_most: float
    ece_at_most: float
    log_loss_gain_at_least: float
    champion_log_loss_excess_at_most: float
    onnx_difference_at_most: float
    latency_p95_ms_at_most: float
    n_months_at_least: int
    n_rows_a_month_at_least: int
    segment_auc_at_least: float
    segment_ece_at_most: float
    slice_log_loss_excess_at_most: dict[str, float]
    quarantined_pct_at_most: float
    data_age_h_at_most: float | None
    psi_at_most: float
    stability_auc_difference_at_most: float
    stability_probability_difference_at_most: float
    server_p95_ms_at_most: float
    bundle_mb_at_most: float
    server_rss_mb_at_most: float
    served_difference_at_most: float
    advisory: tuple[str, ...] = ()
