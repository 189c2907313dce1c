"""Kedro's settings of the project."""

from kedro.config import OmegaConfigLoader
from omegaconf.resolvers import oc

from flightdeck.core.layout import PROJECT, layout
from flightdeck.lineage.hook import LineageHook

HOOKS = (LineageHook(layout().lineage),)
CONF_SOURCE = str(PROJECT / "conf")
CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {
        "oc.env": oc.env,
        "data": lambda path: str(layout().root / path),
        "mlflow_uri": lambda: layout().mlflow_uri,
    },
}
