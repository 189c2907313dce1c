"""A stage contract: what a stage reads and writes, who owns it, what it promises and how it is rolled back.

One YAML file a stage in `conf/base/contracts/`. Keys that are left out get the defaults below; the linter
(`flightdeck.contracts.linter`) says which of them may not stay empty.
"""

from pathlib import Path
from typing import Literal

import msgspec

from flightdeck.core.config import read_config
from flightdeck.core.errors import NotFoundError, nearest

CONTRACTS = Path("conf/base/contracts")
NUMERIC = ("int64", "float64", "float32")
TYPES = (*NUMERIC, "string", "bool", "timestamp[us, UTC]", "list", "mapping", "bytes")


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a table, or one field of a message.

    Parameters
    ----------
    name
        Its name.
    type
        One of `TYPES`.
    unit
        Unit of a number (`min`, `mile`, `1` for counts and shares); empty for anything else.
    nullable
        Whether a value may be missing.
    """

    name: str = ""
    type: str = ""
    unit: str = ""
    nullable: bool = False


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes in or comes out.

    Parameters
    ----------
    name
        Name where it is kept: of the catalog's dataset, of the layout's place (and a file in it), or the route.
    kept_in
        `catalog` (conf/base/catalog*.yml), `layout` (flightdeck.core.layout), `memory` (between two nodes) or `http`.
    description
        What it is, where the name does not say it.
    columns
        Its schema, in order; may be left out where another contract of the project or a vendor defines it.
    """

    name: str = ""
    kept_in: Literal["catalog", "layout", "memory", "http"] = "catalog"
    description: str = ""
    columns: tuple[Column, ...] = ()


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise that can be measured.

    Parameters
    ----------
    name
        What is promised.
    target
        Bound of the promise; the name says which side is good.
    unit
        Unit of the target.
    measured_by
        File and field, metric or command that measures it.
    """

    name: str = ""
    target: float | None = None
    unit: str = ""
    measured_by: str = ""


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the stage is undone: what to do in words, and the command that does it."""

    procedure: str = ""
    command: str = ""


class StageContract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contract of one stage.

    Parameters
    ----------
    stage
        Name of the stage, equal to the file's name.
    owner
        Who answers for it: an address.
    description
        What the stage is for.
    inputs, outputs
        What goes in and comes out.
    slo
        Promises; at least one.
    rollback
        How it is undone.
    runbook
        Path of the runbook from the project's root.
    """

    stage: str = ""
    owner: str = ""
    description: str = ""
    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    slo: tuple[Slo, ...] = ()
    rollback: Rollback = Rollback()
    runbook: str = ""


def read_contract(project: Path, stage: str) -> StageContract:
    """Read the contract of one stage.

    Raises
    ------
    NotFoundError
        If there is none, naming the nearest stage that has one.
    ConfigError
        If the file breaks the form of a contract.
    """
    path = project / CONTRACTS / f"{stage}.yml"
    if not path.is_file():
        stages = sorted(found.stem for found in (project / CONTRACTS).glob("*.yml"))
        raise NotFoundError(
            f"reading the contract of stage {stage!r}{nearest(stage, stages)}: {CONTRACTS}/{stage}.yml does not exist",
            next_step=f"use one of {stages}",
        )
    return read_config(path, StageContract)
