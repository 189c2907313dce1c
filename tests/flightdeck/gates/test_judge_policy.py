from pathlib import Path
from typing import Any

import pytest
import yaml

from flightdeck.core.config import cast_config, read_config
from flightdeck.core.errors import ConfigError
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.release.judge.judge import Judge

GOOD: dict[str, Any] = {"bake_s": 3600, "silence_s": 600, "errors": {}, "latency": {"margin": 0.1}}


def test_a_table_of_the_policies_is_read(tmp_path: Path) -> None:
    (tmp_path / "judge.yml").write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    policy = read_config(tmp_path / "judge.yml", JudgePolicy)
    assert policy.metrics == ("errors", "latency")
    assert policy.latency is not None
    assert (policy.alpha, policy.latency.quantile) == (0.001, 0.95)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": -0.001}, "alpha is -0.001"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"pass_alpha": 0.9}, "pass_alpha is 0.9"),
        ({"bake_s": 0}, "bake_s is 0"),
        ({"silence_s": -1}, "silence_s is -1"),
        ({"errors": None, "latency": None}, "no metrics"),
        ({"errors": None, "latency": None, "log_loss": {}}, "no metrics"),
        ({"errors": {"rate_ratio": 0.5}}, "rate_ratio is 0.5"),
        ({"errors": {"negligible_rate": 0}}, "negligible_rate is 0"),
        ({"errors": {"n_units_at_least": 0}}, "n_units_at_least is 0"),
        ({"latency": {"quantile": 1}}, "quantile is 1"),
        ({"latency": {"margin": -0.1}}, "margin is -0.1"),
        ({"predictions": {"band_edges": [0.5, 0.2]}}, "band_edges"),
        ({"predictions": {"mean_margin": 0}}, "mean_margin is 0"),
        ({"log_loss": {"block_s": 0}}, "block_s is 0"),
        ({"log_loss": {"n_blocks_at_least": 0}}, "n_blocks_at_least is 0"),
        ({"alfa": 0.1}, "did you mean 'alpha'"),
        ({"errors": {"ratio": 1}}, "unknown field `ratio`"),
    ],
)
def test_a_policy_that_could_not_stop_or_pass_anything_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cast_config({**GOOD, **change}, JudgePolicy, where="policies.yml")


@pytest.mark.parametrize("share", [-1, 0, 1, 101, float("nan")])
def test_a_share_without_two_arms_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="must be between 0 and 1"):
        Judge(cast_config(GOOD, JudgePolicy, where="policies.yml"), share)
