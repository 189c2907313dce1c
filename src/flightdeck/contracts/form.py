"""Reading a contract leniently: everything that is wrong with its form is collected, the rest is still usable."""

import types
from typing import Any, get_args, get_origin

import msgspec

from flightdeck.contracts.stage import StageContract
from flightdeck.core.errors import nearest, some


def parse_contract(content: object) -> tuple[StageContract, list[str]]:
    """Return what can be read of parsed YAML, and all that is wrong with its keys and types.

    A field that cannot be read keeps its default, so that the rules about the other fields can still be checked.
    """
    if not isinstance(content, dict):
        return StageContract(), ["the file is not a mapping of keys to values"]
    problems = unknown_keys(content, StageContract)
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(StageContract):
        if field.name not in content:
            continue
        try:
            fields[field.name] = msgspec.convert(_known(content[field.name], field.type), field.type)
        except msgspec.ValidationError as error:
            problems.append(f"{field.name}: {error}")
    return StageContract(**fields), problems


def unknown_keys(content: object, kind: Any, where: str = "") -> list[str]:
    """Return every key of `content`, at any depth, that `kind` does not have, with the nearest that it has."""
    problems: list[str] = []
    struct, element = _struct(kind), _element(kind)
    if struct is not None and isinstance(content, dict):
        types_by_name = {field.name: field.type for field in msgspec.structs.fields(struct)}
        for key, value in content.items():
            place = f"{where}.{key}" if where else str(key)
            if key not in types_by_name:
                known = some(types_by_name, limit=10)
                problems.append(f"unknown key {place}{nearest(str(key), types_by_name)}; keys there: {known}")
            else:
                problems += unknown_keys(value, types_by_name[key], place)
    elif element is not None and isinstance(content, list):
        for number, value in enumerate(content):
            problems += unknown_keys(value, element, f"{where}[{number}]")
    return problems


def _known(content: object, kind: Any) -> object:
    """Return `content` without the keys that `kind` does not have."""
    struct, element = _struct(kind), _element(kind)
    if struct is not None and isinstance(content, dict):
        types_by_name = {field.name: field.type for field in msgspec.structs.fields(struct)}
        return {key: _known(value, types_by_name[key]) for key, value in content.items() if key in types_by_name}
    if element is not None and isinstance(content, list):
        return [_known(value, element) for value in content]
    return content


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    candidates = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((k for k in candidates if isinstance(k, type) and issubclass(k, msgspec.Struct)), None)


def _element(kind: Any) -> Any | None:
    return get_args(kind)[0] if get_origin(kind) is tuple else None
