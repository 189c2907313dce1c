"""The linter of stage contracts: it compares all of them with the project and reports every violation at once."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from flightdeck.contracts.form import parse_contract
from flightdeck.contracts.stage import CONTRACTS, NUMERIC, TYPES, Dataset, StageContract
from flightdeck.core.errors import nearest, some
from flightdeck.core.layout import Layout

CATALOG = "conf/base/catalog*.yml"
STAGES = Path("src/pipelines")
SERVING = Path("serving")
COMMANDS = ("kedro", "make")


@dataclass(frozen=True)
class Violation:
    """One broken rule and the file that breaks it, relative to the project."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def lint(project: Path) -> list[Violation]:
    """Return every violation of the project's stage contracts, in order of files; empty if all is well.

    Rules: each stage (a folder of `src/pipelines`, and `serving`) has a contract named after it and each contract a
    stage; keys and types are those of `StageContract`; owner, description, outputs, SLO, rollback and runbook are
    given; datasets of the catalog are in the catalog; numbers have a unit; rollback commands are kedro or make
    commands; runbooks exist.
    """
    stages = _stages(project)
    files = sorted((project / CONTRACTS).glob("*.yml"))
    catalog = _catalog(project)
    violations = [
        Violation(f"{CONTRACTS}/{stage}.yml", f"stage {stage!r} has no contract") for stage in _missing(stages, files)
    ]
    for path in files:
        where = path.relative_to(project).as_posix()
        violations += [Violation(where, message) for message in _lint_file(project, path, stages, catalog)]
    return sorted(violations, key=lambda violation: violation.path)


def _lint_file(project: Path, path: Path, stages: list[str], catalog: list[str] | None) -> Iterator[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield f"not valid YAML: {error}"
        return
    contract, problems = parse_contract(content)
    yield from problems
    yield from _identity(contract, path, stages)
    yield from _promises(contract)
    yield from _recovery(contract, project)
    for side, datasets in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        for dataset in datasets:
            yield from (f"{side}: {message}" for message in _dataset(dataset, catalog))


def _identity(contract: StageContract, path: Path, stages: list[str]) -> Iterator[str]:
    if contract.stage != path.stem:
        yield f"stage is {contract.stage!r}, the file is named {path.stem!r}"
    if path.stem not in stages:
        yield f"there is no stage {path.stem!r}{nearest(path.stem, stages)}; stages: {some(stages, limit=20)}"
    if not re.fullmatch(r"\S+@\S+", contract.owner.strip()):
        yield f"owner is {contract.owner!r}; it must be an address that somebody reads"
    if not contract.description.strip():
        yield "description is empty"
    if not contract.outputs:
        yield "outputs is empty: a stage without a result needs no contract"


def _promises(contract: StageContract) -> Iterator[str]:
    if not contract.slo:
        yield "slo is empty: promise at least one thing that can be measured"
    for place, slo in enumerate(contract.slo):
        name = slo.name.strip() or f"number {place + 1}"
        if not slo.name.strip():
            yield f"slo {name}: name is empty"
        if slo.target is None:
            yield f"slo {name}: target is missing"
        if not slo.unit.strip():
            yield f"slo {name}: unit is empty"
        if not slo.measured_by.strip():
            yield f"slo {name}: measured_by is empty: name the file, metric or command that measures it"


def _recovery(contract: StageContract, project: Path) -> Iterator[str]:
    if not contract.rollback.procedure.strip():
        yield "rollback.procedure is empty"
    words = contract.rollback.command.split()
    if len(words) < 2 or words[0] not in COMMANDS:
        yield f"rollback.command is {contract.rollback.command!r}; it must be a {' or '.join(COMMANDS)} command"
    if not contract.runbook.strip():
        yield "runbook is empty"
    elif not (project / contract.runbook).is_file():
        yield f"runbook {contract.runbook} does not exist"


def _dataset(dataset: Dataset, catalog: list[str] | None) -> Iterator[str]:
    name = dataset.name
    if not name.strip():
        yield "a dataset has no name"
    elif dataset.kept_in == "catalog" and catalog is not None and not _in_catalog(name, catalog):
        yield f"dataset {name!r}{nearest(name, catalog)} is not in {CATALOG}"
    elif dataset.kept_in == "layout" and not _is_place(name):
        places = [place for place in vars(Layout) if isinstance(getattr(Layout, place), property)]
        yield f"{name!r}{nearest(name, places)} is no place of flightdeck.core.layout"
    names = [column.name for column in dataset.columns]
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        yield f"dataset {name!r}: {some(repeated)} is there twice"
    for column in dataset.columns:
        if not column.name.strip():
            yield f"dataset {name!r}: a column has no name"
        if column.type not in TYPES:
            yield f"dataset {name!r}, column {column.name!r}: type {column.type!r}{nearest(column.type, TYPES)} is none"
        if column.type in NUMERIC and not column.unit.strip():
            yield f"dataset {name!r}, column {column.name!r}: a number needs a unit ('1' for counts and shares)"


def _is_place(name: str) -> bool:
    """Tell whether the layout has the place `name`, or the place that `name` (`monitoring/drift.parquet`) lies in."""
    return isinstance(getattr(Layout, name.partition("/")[0], None), property)


def _stages(project: Path) -> list[str]:
    """Return the names of the stages: folders of the use case that hold a pipeline or code, and serving."""
    folders = [path for path in (project / STAGES).glob("*") if path.is_dir() and path.name[0] not in "_."]
    names = [path.name for path in folders]
    return sorted([*names, "serving"] if (project / SERVING).is_dir() else names)


def _missing(stages: Iterable[str], files: Iterable[Path]) -> list[str]:
    there = {path.stem for path in files}
    return [stage for stage in stages if stage not in there]


def _catalog(project: Path) -> list[str] | None:
    """Return the catalog's names and patterns, None where it has none; a pattern for everything says nothing."""
    files = sorted(project.glob(CATALOG))
    names = [str(name) for path in files for name in yaml.safe_load(path.read_text(encoding="utf-8")) or {}]
    known = [name for name in names if not name.startswith("_") and not re.fullmatch(r"\{[^}]*\}", name)]
    return known if files else None


def _in_catalog(name: str, catalog: Iterable[str]) -> bool:
    """Tell whether the catalog has `name`, by itself or through a pattern such as `quarantined_{source}`."""
    for entry in catalog:
        pattern = "(.+)".join(re.escape(part) for part in re.split(r"\{[^}]*\}", entry))
        if re.fullmatch(pattern, name):
            return True
    return False
