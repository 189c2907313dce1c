"""Configuration is read once, cast at the edge, frozen; unknown keys are refused with the nearest valid one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from flightdeck.core.errors import ConfigError, nearest
from flightdeck.core.layout import PROJECT

ENVIRONMENT = "KEDRO_ENV"
LOCAL = "local"

T = TypeVar("T", bound=msgspec.Struct)


def read_config(path: Path, kind: type[T]) -> T:
    """Read the YAML file at `path` into `kind`, a frozen `msgspec.Struct`.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, has an unknown key, lacks one or has a value of another type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"reading configuration: {path} does not exist", next_step="restore it from git") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"reading {path}: not valid YAML: {error}", next_step="mend the file") from error
    return cast_config(content, kind, where=str(path))


def cast_config(content: object, kind: type[T], *, where: str) -> T:
    """Cast parsed `content` to `kind`, refusing unknown keys at the top level and below.

    Raises
    ------
    ConfigError
        Naming `where`, the key and the rule.
    """
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(content) - known) if isinstance(content, dict) else []
    if unknown:
        listed = "; ".join(f"{key!r}{nearest(str(key), known)}" for key in unknown)
        raise ConfigError(f"reading {where}: unknown keys {listed}", next_step=f"use one of {sorted(known)}")
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"reading {where}: {error}", next_step="correct the value; the file is in git") from error


def read_settings(
    file: str,
    kind: type[T],
    env: str | None = None,
    *,
    variables: Mapping[str, str] | None = None,
    conf: Path = PROJECT / "conf",
    environment: Mapping[str, str] | None = None,
) -> T:
    """Read the settings of an environment: `base`, over it the environment's file, over both the named variables.

    Parameters
    ----------
    kind
        Frozen `msgspec.Struct` to cast to.
    variables
        Environment variable that takes the place of a key; one that is empty does not.
    file, env, conf, environment
        As of `read_layers`.

    Raises
    ------
    ConfigError
        As of `read_layers` and `cast_config`.
    """
    said = os.environ if environment is None else environment
    name, base, override = read_layers(file, env, conf=conf, environment=said)
    given = {key: said[variable] for key, variable in (variables or {}).items() if said.get(variable)}
    named = "".join(f" and {(variables or {})[key]}" for key in given)
    return cast_config({**base, **override, **given}, kind, where=f"{file} of environment {name!r}{named}")


def read_layers(
    file: str, env: str | None = None, *, conf: Path = PROJECT / "conf", environment: Mapping[str, str] | None = None
) -> tuple[str, dict[str, object], dict[str, object]]:
    """Return the name of the environment, and the tables of `file` in `base` and in that environment.

    Parameters
    ----------
    file
        Name of the YAML file, such as `stores.yml`; a layer without it is an empty table.
    env
        Name of the environment, such as `scale` (default: what `KEDRO_ENV` says, else `local`).
    conf
        Folder with `base` and the environments.
    environment
        Environment variables (default: those of the process).

    Raises
    ------
    ConfigError
        If there is no such environment, or a file is not YAML or not a table.
    """
    name = env or (os.environ if environment is None else environment).get(ENVIRONMENT) or LOCAL
    if not (conf / name).is_dir() and name != LOCAL:
        there = sorted(path.name for path in conf.iterdir() if path.is_dir())
        raise ConfigError(f"reading {file}: no environment {name!r}", next_step=f"use one of {there}")
    return name, _read_table(conf / "base" / file), _read_table(conf / name / file)


def _read_table(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"reading {path}: not valid YAML: {error}", next_step="mend the file") from error
    if not isinstance(content, dict | None):
        raise ConfigError(f"reading {path}: not a table of names and values", next_step="mend the file")
    return content or {}
