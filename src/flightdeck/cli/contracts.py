"""`kedro contracts`: check and show the contracts of the stages."""

import click
from rich.console import Console
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.contracts.linter import lint as lint_project
from flightdeck.contracts.stage import Dataset, StageContract, read_contract
from flightdeck.core.errors import ContractViolation
from flightdeck.core.layout import PROJECT


@click.group()
def contracts() -> None:
    """Check and show what each stage reads, writes and promises."""


@contracts.command()
@reports_errors
def lint() -> None:
    """Compare all contracts with the project; exit 1 with the list of violations."""
    violations = lint_project(PROJECT)
    if violations:
        listed = "".join(f"\n  - {violation}" for violation in violations)
        raise ContractViolation(
            f"{len(violations)} violations of stage contracts:{listed}",
            next_step="correct the files; the rules are in src/flightdeck/contracts/linter.py",
        )
    click.echo("stage contracts: no violation")


@contracts.command()
@click.argument("stage")
@reports_errors
def show(stage: str) -> None:
    """Show the contract of STAGE."""
    contract = read_contract(PROJECT, stage)
    console = Console()
    console.print(f"[bold]{contract.stage}[/bold]  {contract.owner}\n{contract.description.strip()}")
    for title, datasets in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        console.print(_datasets(title, datasets))
    console.print(_promises(contract))
    console.print(f"roll back: {contract.rollback.procedure.strip()}\n  {contract.rollback.command}", markup=False)
    console.print(f"runbook: {contract.runbook}", markup=False)


def _datasets(title: str, datasets: tuple[Dataset, ...]) -> Table:
    table = Table("name", "kept in", "columns", title=title, title_justify="left")
    for dataset in datasets:
        columns = ", ".join(f"{c.name} {c.type}{f' ({c.unit})' if c.unit else ''}" for c in dataset.columns)
        table.add_row(dataset.name, dataset.kept_in, columns or dataset.description)
    return table


def _promises(contract: StageContract) -> Table:
    table = Table("promise", "target", "measured by", title="SLO", title_justify="left")
    for slo in contract.slo:
        table.add_row(slo.name, f"{slo.target:g} {slo.unit}" if slo.target is not None else "", slo.measured_by)
    return table
