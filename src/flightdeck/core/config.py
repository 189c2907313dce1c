"""Configuration is read once, cast at the edge, frozen; unknown keys are refused with the nearest valid one."""

from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from flightdeck.core.errors import ConfigError, nearest

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
