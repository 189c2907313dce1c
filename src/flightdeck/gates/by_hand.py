"""The gate asked for by hand: on a draft, or on a sealed bundle, which is copied first because its files are fixed.

It is the same notebook with the same bounds as in the pipeline, but nothing is sealed, registered or recorded after it.
A look that ends without a verdict is `GateImpossible`: neither good nor bad. From a notebook:

    from flightdeck.gates.by_hand import read_settings, run_by_hand
    run_by_hand(Path("data/06_models/draft"), tier="high", settings=read_settings()).failed
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from flightdeck.core.config import cast_config, read_layers
from flightdeck.core.errors import ConfigError, FlightdeckError, GateImpossible
from flightdeck.core.identifiers import digest_file
from flightdeck.core.layout import PROJECT
from flightdeck.gates.notebook import FOLDER, judge_draft
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Verdict
from flightdeck.inference.bundle import MANIFEST, Bundle, open_bundle


class GateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the gate is run: path of the notebook in the project, and seconds that a cell may take."""

    notebook: str
    cell_timeout_s: float


def read_settings() -> GateSettings:
    """Read how the gate is run, of the environment in force.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, or a value of another type.
    """
    return cast_config(_parameters("evaluation"), GateSettings, where="parameters_evaluation.yml, table evaluation")


def usual_tier() -> str:
    """Return the risk tier that the pipeline judges a draft by: `release.tier` of `parameters_release.yml`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    tier = _parameters("release").get("tier")
    if not isinstance(tier, str):
        raise ConfigError(f"reading parameters_release.yml: release.tier is {tier!r}, the name of a tier is needed")
    return tier


def run_by_hand(
    folder: Path,
    *,
    tier: str,
    settings: GateSettings,
    champion_bundle: str = "",
    champion_problem: str = "",
    expected_digest: str = "",
    report: Path | None = None,
) -> Verdict:
    """Execute the gate notebook on a draft or a sealed bundle and return the verdict, whatever it says.

    Parameters
    ----------
    folder
        Folder of a draft, whose `evaluation/` is made anew, or of a sealed bundle, which stays as it is.
    tier
        Risk tier to judge by.
    settings
        Which notebook, and for how long.
    champion_bundle
        Folder of the bundle to compare with, or empty.
    champion_problem
        Why the champion cannot be compared with, or empty.
    expected_digest
        Digest that a sealed bundle must have; where empty, its own manifest is believed.
    report
        Folder to copy the executed notebook, its page and the verdict to, or None.

    Raises
    ------
    GateImpossible
        If there is no verdict: folder or tier missing, the bundle altered, a cell raised, the kernel died. Exit code 4.
    """

    def judge(draft: Path) -> Verdict:
        return judge_draft(
            PROJECT / settings.notebook,
            draft,
            tier=tier,
            parameters={
                "champion_bundle": champion_bundle,
                "champion_problem": champion_problem,
                **read_policies(PROJECT / "conf").tier(tier).gate_parameters,
            },
            timeout_s=settings.cell_timeout_s,
            keep=_copier(report),
        )

    try:
        if not expected_digest and not (folder / MANIFEST).is_file():
            return judge(_existing(folder))
        bundle = open_bundle(folder, expected_digest=expected_digest or digest_file(folder / MANIFEST))
        with tempfile.TemporaryDirectory(prefix="flightdeck-gate-") as scratch:
            return judge(_unsealed(bundle, Path(scratch) / "draft"))
    except (FlightdeckError, OSError) as error:
        what, next_step = (error.message, error.next_step) if isinstance(error, FlightdeckError) else (str(error), "")
        raise GateImpossible(f"running the gate on {folder}: {what}", next_step=next_step) from error


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise GateImpossible("no such folder", next_step="name a draft, a bundle or a version: kedro release list")
    return folder


def _unsealed(bundle: Bundle, draft: Path) -> Path:
    """Copy what a bundle was sealed from, without its manifest and its evidence, and return the new draft."""
    for name in bundle.manifest.files:
        if not name.startswith(f"{FOLDER}/"):
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, draft / name)  # without its mode: a sealed file is read-only
    return draft


def _copier(report: Path | None) -> Callable[[Path], None]:
    def keep(evidence: Path) -> None:
        if report is not None:
            shutil.copytree(evidence, report, dirs_exist_ok=True)

    return keep


def _parameters(name: str) -> dict[str, object]:
    """Return the table `name` of its file of parameters, the environment's values over those of `base`."""
    _, base, override = read_layers(f"parameters_{name}.yml")
    tables = [layer.get(name) or {} for layer in (base, override)]
    if not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"reading parameters_{name}.yml: {name} is no table of names and values")
    return {key: value for table in tables if isinstance(table, dict) for key, value in table.items()}
