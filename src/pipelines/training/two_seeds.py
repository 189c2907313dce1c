"""The record of two models that were trained alike but for the seed: written by training, judged by the gate."""

import msgspec


class TwoSeeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `training.json` records of two models that differ in nothing but the seed.

    Parameters
    ----------
    seeds
        Seed of the draft's model and of the other.
    auc
        ROC AUC of both on the test set, by prediction horizon in minutes (as text).
    probability_difference
        Mean absolute difference of their probabilities over the test set.
    n_rows
        Rows of the test set.
    """

    seeds: tuple[int, int]
    auc: dict[str, tuple[float, float]]
    probability_difference: float
    n_rows: int

    @property
    def is_same_model(self) -> bool:
        """Whether the seed made no difference at all."""
        return self.probability_difference == 0
