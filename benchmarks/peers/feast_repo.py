"""A Feast feature store below one folder, declared from JSON: entities, views over Parquet files, both its stores."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.repo_config import RegistryConfig
from feast.types import Float64

AT = "created_timestamp"


def declare(folder: str, views: list[dict[str, Any]], offline: str, online: dict[str, str]) -> FeatureStore:
    """Return a store with the views applied.

    Parameters
    ----------
    folder
        Its registry and local files.
    views
        Objects of `name`, `entity` (columns), `columns` (float64 features), `path` (Parquet) and `ttl_s`.
    offline
        Type of the offline store: `dask` (Feast's own default for files) or `duckdb`.
    online
        The online store's section of `feature_store.yaml`.
    """
    config = RepoConfig(
        project="peer",
        provider="local",
        registry=RegistryConfig(path=str(Path(folder) / "registry.db"), cache_ttl_seconds=0),  # never read again
        offline_store={"type": offline},
        online_store=online,
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    names = dict.fromkeys(name for view in views for name in view["entity"])
    entities = {name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in names}
    declared = [
        FeatureView(
            name=view["name"],
            entities=[entities[name] for name in view["entity"]],
            ttl=timedelta(seconds=view["ttl_s"]),
            schema=[Field(name=name, dtype=Float64) for name in view["columns"]],
            source=FileSource(name=f"{view['name']}_rows", path=view["path"], timestamp_field=AT),
        )
        for view in views
    ]
    store.apply([*entities.values(), *declared])
    return store


def references(views: list[dict[str, Any]]) -> list[str]:
    """Return every feature of the views as Feast names them."""
    return [f"{view['name']}:{column}" for view in views for column in view["columns"]]
