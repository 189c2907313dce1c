"""Which code made a run: git commit, whether the tree differs from it, and the digest of the lock file."""

import subprocess
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from flightdeck.core.identifiers import digest_file
from flightdeck.core.layout import PROJECT


def code_version(project: Path) -> dict[str, str]:
    """Return `git_commit` (`+changes`: the tree differs; `unversioned`: no git) and `lock_digest`."""
    commit = _git(project, "rev-parse", "HEAD") or "unversioned"
    changed = bool(_git(project, "status", "--porcelain", "--untracked-files=no"))
    lock = project / "requirements.lock"
    return {
        "git_commit": f"{commit}+changes" if changed else commit,
        "lock_digest": digest_file(lock) if lock.is_file() else "unlocked",
    }


class CodeVersionDataset(AbstractDataset[None, dict[str, str]]):
    """The code version of the project, read when a run needs it."""

    def load(self) -> dict[str, str]:
        """Return the project's code version."""
        return code_version(PROJECT)

    def save(self, data: None) -> None:
        """Refuse: code is versioned by git."""
        raise DatasetError("the code version is read from git, not written")

    def _describe(self) -> dict[str, Any]:
        return {"project": PROJECT.name}


def _git(project: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
