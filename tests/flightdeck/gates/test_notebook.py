"""The gate with real kernels: a pass, a no, and every way in which a notebook can fail to give a verdict."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from flightdeck.core.errors import FlightdeckError, GateFailed, GateImpossible, NotFoundError
from flightdeck.core.layout import PROJECT
from flightdeck.gates.html import SCRIPT
from flightdeck.gates.notebook import enforce, execute, run_gate
from flightdeck.gates.policy import read_policies
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check, Verdict, judge, read_verdict
from tests.candidates import DATA_VERSIONS, seal_draft, write_draft

GATES = list(read_policies(PROJECT / "conf", "test").medium.gates)
NOTEBOOK = PROJECT / "notebooks" / "reports" / "evaluation.ipynb"


def kernels() -> set[int]:
    """Return the process ids of the kernels that this process started and that run still."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"ipykernel" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    """Whatever a gate does, the kernel that it started is gone."""
    yield
    assert kernels() == set()


def gate(draft: Path, bounds: Thresholds, champion: Path | None = None) -> Verdict:
    parameters = {
        "gates": GATES,
        "thresholds": msgspec.to_builtins(bounds),
        "data_versions": DATA_VERSIONS,
        "champion_bundle": str(champion or ""),
    }
    return run_gate(NOTEBOOK, draft, tier="medium", parameters=parameters, timeout_s=120)


def scratch(path: Path, *sources: str) -> Path:
    """Write a notebook with the gate's parameters and the cells `sources`."""
    defaults = "\n".join(f"{name} = ''" for name in ("bundle", "tier", "verdict_path"))
    cells = [new_code_cell(defaults, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def run_scratch(tmp_path: Path, *sources: str, timeout_s: float = 60) -> Verdict:
    draft = tmp_path / "draft"
    (draft / "evaluation").mkdir(parents=True)
    (draft / "model.onnx").write_bytes(b"model")
    (draft / "evaluation" / "verdict.json").write_text('{"passed": true}')  # a stale pass
    return run_gate(
        scratch(tmp_path / "gate.ipynb", *sources), draft, tier="medium", parameters={}, timeout_s=timeout_s
    )


def test_a_good_draft_passes_and_leaves_its_evidence(good_draft: Path, tmp_path: Path, bounds: Thresholds) -> None:
    champion = seal_draft(write_draft(tmp_path / "champion", shift=0.1, n_rows=10_000), tmp_path / "bundles")
    verdict = gate(good_draft, bounds, champion.path)
    assert verdict.passed
    evaluation = good_draft / "evaluation"
    assert read_verdict(evaluation / "verdict.json") == verdict
    page = (evaluation / "evaluation.html").read_text()
    assert "PASSED" in page
    assert page.count("<img") == page.count("alt=") == 7
    assert not SCRIPT.search(page)
    assert 'http-equiv="Content-Security-Policy"' in page
    outputs = [o for cell in nbformat.read(evaluation / "evaluation.ipynb", 4).cells for o in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type in ("error", "stream")]


def test_a_bad_draft_fails_with_exit_code_3_and_the_names(tmp_path: Path, bounds: Thresholds) -> None:
    draft = write_draft(tmp_path / "draft", strength={15: 1.0, 120: 0.9}, shift=0.3)
    with pytest.raises(GateFailed, match=r"auc_15 is 0\.7.*, bound 0\.77; auc_120 .*; ece is ") as error:
        gate(draft, bounds)
    assert error.value.exit_code == 3
    assert "evaluation.html" in error.value.next_step
    assert read_verdict(draft / "evaluation" / "verdict.json").failed[:3] == ("auc_15", "auc_120", "ece")
    assert "FAILED" in (draft / "evaluation" / "evaluation.html").read_text()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        pytest.param("import os; os._exit(1)", "DeadKernelError|died", id="kernel exits"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "DeadKernelError|died", id="kernel killed"
        ),
        pytest.param("1 / 0", "ZeroDivisionError", id="cell raises"),
        pytest.param("x = 1", "the gate wrote none", id="no verdict"),
        pytest.param("open(verdict_path, 'w').write('{}')", "missing required field", id="half a verdict"),
    ],
)
def test_a_notebook_without_verdict_is_a_failure_with_exit_code_1(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(FlightdeckError, match=message) as error:
        run_scratch(tmp_path, cell)
    assert error.value.exit_code == 1
    assert (tmp_path / "draft" / "evaluation" / "evaluation.html").is_file()


def test_an_endless_cell_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(FlightdeckError, match=r"CellTimeoutError|timed out"):
        run_scratch(tmp_path, "while True: pass", timeout_s=2)


def test_a_verdict_about_other_content_does_not_count(tmp_path: Path) -> None:
    passing = judge("f" * 64, "medium", [], "now")
    content = msgspec.json.encode(passing).decode()
    with pytest.raises(FlightdeckError, match="it is about content ffff"):
        run_scratch(tmp_path, f"open(verdict_path, 'w').write({content!r})")


def test_the_evidence_is_kept_however_the_gate_ends(tmp_path: Path) -> None:
    kept: list[list[str]] = []
    draft = tmp_path / "draft"
    draft.mkdir()
    notebook = scratch(tmp_path / "gate.ipynb", "raise SystemError('no')")
    with pytest.raises(FlightdeckError, match="SystemError: no"):
        run_gate(
            notebook,
            draft,
            tier="low",
            parameters={},
            timeout_s=60,
            keep=lambda folder: kept.append(sorted(path.name for path in folder.iterdir())),
        )
    assert kept == [["evaluation.html", "evaluation.ipynb"]]


def test_a_misspelt_parameter_and_a_missing_notebook_are_refused(tmp_path: Path) -> None:
    notebook = scratch(tmp_path / "gate.ipynb", "1")
    with pytest.raises(FlightdeckError, match="it has no parameter thresholds"):
        execute(notebook, tmp_path / "out.ipynb", {"thresholds": {}}, timeout_s=10)
    with pytest.raises(NotFoundError):
        execute(tmp_path / "none.ipynb", tmp_path / "out.ipynb", {}, timeout_s=10)
    assert not (tmp_path / "out.ipynb").exists()


def check(value: float | None, *, blocking: bool = True) -> Check:
    return Check("ece", value, 0.02, passed=False, blocking=blocking, detail="as measured")


@pytest.mark.parametrize(
    ("checks", "kind", "message"),
    [
        pytest.param([], GateImpossible, "it made no check", id="no check"),
        pytest.param([check(None)], GateImpossible, "ece is unknown: as measured", id="nothing measured"),
        pytest.param([check(0.5)], GateFailed, r"ece is 0\.5, bound 0\.02", id="a measured no"),
        pytest.param([check(0.5), check(None)], GateFailed, "ece is unknown", id="a measured no and an unknown"),
        pytest.param([check(0.5, blocking=False), check(None)], GateImpossible, "unknown", id="the no only informs"),
    ],
)
def test_what_is_no_pass_is_a_measured_no_or_an_unknown(
    checks: list[Check], kind: type[FlightdeckError], message: str
) -> None:
    with pytest.raises(FlightdeckError, match=message) as error:
        enforce(judge("s", "low", checks, "now"), "the page")
    assert type(error.value) is kind
    assert "the page" in error.value.next_step


def test_the_committed_notebook_has_no_outputs_and_stable_ids() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]
    assert all(cell.source.count("\n") < 25 for cell in code), "logic belongs into flightdeck.gates"


def test_a_gate_that_is_killed_takes_its_kernel_along(tmp_path: Path) -> None:
    alive = tmp_path / "kernel.pid"
    notebook = scratch(
        tmp_path / "gate.ipynb", f"import os; open({str(alive)!r}, 'w').write(str(os.getpid()))", "while True: pass"
    )
    program = "import sys; from pathlib import Path; from flightdeck.gates.notebook import execute; "
    program += "execute(Path(sys.argv[1]), Path(sys.argv[2]), {}, timeout_s=300)"
    gate_process = subprocess.Popen([sys.executable, "-c", program, str(notebook), str(tmp_path / "out.ipynb")])
    try:
        wait_until(lambda: alive.is_file() and alive.read_text() != "")
    finally:
        gate_process.kill()
        gate_process.wait()
    kernel = int(alive.read_text())
    wait_until(lambda: not is_running(kernel))


def is_running(process_id: int) -> bool:
    """Tell whether a process is there and more than an entry that nobody has collected."""
    try:
        return ") Z " not in Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for at most a minute, which is long after anything here happens."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within a minute")
