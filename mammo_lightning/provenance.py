"""From what code and libraries a run was made."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "pytorch-lightning", "optuna", "mlflow", "scikit-learn", "albumentations", "numpy")


def provenance() -> tuple[dict[str, str], str]:
    """Tags (commit, whether the tree was changed, digest of the lock, versions) and the difference to the commit."""
    tags = {"python": platform.python_version(), "package": version_of("mammo-lightning")}
    tags |= {f"version.{name}": version_of(name) for name in LIBRARIES}
    lock = SOURCE / "requirements.lock"
    if lock.is_file():
        tags["lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return tags, ""
    diff = _git("diff", "HEAD", "--", "*.py", "*.toml")
    return {**tags, "mlflow.source.git.commit": commit, "git.dirty": str(bool(diff)).lower()}, diff


def version_of(name: str) -> str:
    """The installed version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _git(*command: str) -> str:
    if not (SOURCE / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", *command], cwd=SOURCE, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
