"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from mammo_lightning.errors import TrackingError


def write_whole(path: Path, data: bytes) -> None:
    """Write through a neighbour and a rename, so that no reader meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    Path(part).chmod(0o644)
    Path(part).replace(path)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, replacing what stood there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        replace_tree(Path(shutil.copytree(source, Path(scratch) / "new")), target)


def replace_tree(new: Path, target: Path) -> None:
    """Put a folder in the place of another; what stood there goes away with the new one's parent."""
    if target.exists():
        target.replace(new.with_name("old"))
    new.replace(target)


def tree_digest(folder: Path) -> str:
    """A short name for the content of a model folder; its MLmodel says when it was written, and does not count."""
    hasher = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "MLmodel"):
        hasher.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as stream:
            hasher.update(hashlib.file_digest(stream, "sha256").digest())
    return hasher.hexdigest()[:16]


def check_name(name: str) -> str:
    """A relative name that stays inside its folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise TrackingError(f"artifact name {name!r} leaves its run; use a relative name such as 'figures/roc.png'")
    return str(path)
