"""Archives from strangers: unpacked only if every member stays inside, is a plain file, and fits."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from filelock import FileLock

from mammo_lightning.errors import DataError

MOST_BYTES = 4 * 2**30
MOST_FILES = 1_000_000
MOST_RATIO = 200  # unpacked to packed: images pack perhaps tenfold, a bomb a thousandfold


def unpack(archive: Path, into: Path) -> Path:
    """Unpack a tar archive once into a folder named by its content; returns that folder."""
    with archive.open("rb") as stream:
        folder = into / hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    into.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            try:
                _extract(archive, part)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            part.rename(folder)
    return folder


def _extract(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    allowed = min(MOST_BYTES, MOST_RATIO * max(archive.stat().st_size, 4096))
    files, written = 0, 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                _check(archive, member)
                files, written = files + 1, written + member.size
                if written > allowed or files > MOST_FILES:
                    raise DataError(
                        f"'{archive}' unpacks to more than {allowed:,} bytes or {MOST_FILES:,} files; refused"
                    )
                tar.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"'{archive}' is not a readable tar archive ({error}); download it again") from error


def _check(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"'{archive}' has a member '{member.name}' that leaves the folder; refused")
    if not (member.isfile() or member.isdir()):
        raise DataError(f"'{archive}' has a member '{member.name}' that is a link or device; only files are unpacked")
