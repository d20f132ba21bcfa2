"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mammo_lightning.errors import TrackingError

#: what a process that was killed while writing may leave behind
PART = ".part"
#: written once and never again, hence shared between folders
SHARED = ".safetensors"


def write_whole(path: Path, data: bytes) -> None:
    """Write through a neighbour and a rename, so that no reader meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def link_whole(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links; what stood there is replaced.

    Both names are one file afterwards: a writer must replace it as `write_whole` does, never write into it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):  # renaming a name of a file over another one does nothing
        return
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PART}")
    try:
        try:
            part.hardlink_to(source.resolve())
        except OSError:
            shutil.copyfile(source, part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, replacing what stood there; weights are linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=PART) as scratch:
        replace_tree(Path(shutil.copytree(source, Path(scratch) / "new", copy_function=_copy)), target)


def _copy(source: str, target: str) -> None:
    if source.endswith(SHARED):
        link_whole(Path(source), Path(target))
    else:
        shutil.copyfile(source, target)


def replace_tree(new: Path, target: Path) -> None:
    """Put a folder in the place of another; what stood there goes away with the new one's parent."""
    if target.exists():
        target.replace(new.with_name("old"))
    new.replace(target)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """What `types.digest` would call the content of a file."""
    hasher = hashlib.sha256(path.stat().st_size.to_bytes(8, "little"))
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()[:16]


def tree_digest(folder: Path) -> str:
    """A short name for the content of a model folder; its MLmodel says when it was written, and does not count.

    Nor does what Python leaves beside code that was run.
    """
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "MLmodel" or "__pycache__" in path.relative_to(folder).parts:
            continue
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


def below(prefix: str, name: str) -> bool:
    """Whether a name is `prefix` or lies in the folder of that name."""
    return name == prefix or name.startswith(f"{prefix}/")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What a disk refuses, in one line."""
    try:
        yield
    except OSError as error:
        raise TrackingError(
            f"'{folder}' cannot be written to ({error.strerror or error}); nothing said before is lost. "
            "Free some space or mend the folder, then give the same command again"
        ) from error
