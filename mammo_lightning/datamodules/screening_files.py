"""What the files of a screening archive say and show: each asked once, its answer kept from start to start."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.datamodules.contents import state_of
from mammo_lightning.datamodules.files import read_table, shown
from mammo_lightning.errors import DataError
from mammo_lightning.hardware import cores
from mammo_lightning.preprocessing.breast import breast_mask, wall_side
from mammo_lightning.preprocessing.dicom import read_dicom, read_header
from mammo_lightning.preprocessing.ellipse import RULES, find_ellipses, grey8, lesion_boxes, normal_boxes
from mammo_lightning.preprocessing.header import Header
from mammo_lightning.preprocessing.patches import Box
from mammo_lightning.types import digest

#: changes with what is asked for, so that answers to another question are not taken
TAGS = digest("tags 1", *(field.name for field in fields(Header)))
PATCHES = digest("patches 2", *asdict(RULES).items())
#: columns of the table by which a film is found, the most exact first
KEYS = ("path", "instance", "exam", "patient")
_MARK = b"DICM"  # behind 128 bytes of anything
_BIRADS = re.compile(r"(?:bi-?rads)?\s*([0-6])(?:\.0|[abc])?", re.IGNORECASE)

T = TypeVar("T")
Answer = dict[str, Any]


@dataclass(frozen=True)
class Film:
    """A file of which patches may be cut."""

    path: str
    name: str  # below the root
    header: Header
    birads: str

    @property
    def normal(self) -> bool:
        """Whether blocks are cut from it, and not what is circled in it."""
        return self.birads == "1"

    @property
    def content(self) -> str:
        """What names its content: the SOPInstanceUID."""
        return self.header.instance or self.name


def remembered(
    memory: Path,
    items: Sequence[T],
    about: Callable[[T], tuple[str, ...]],
    ask: Callable[[T], Answer],
    *,
    lenient: bool,
) -> Iterator[tuple[T, Answer]]:
    """The answer to each item, in order; only of files that are new or have changed since is it asked for.

    Args:
        memory: Grows by a line an answer; what was interrupted goes on where it stopped.
        items: What is asked about.
        about: The file of an item, and whatever else the answer depends on.
        ask: Called in several threads.
        lenient: Answer `{"unreadable": why}` where `ask` refuses, instead of refusing all. It is not kept.
    """
    known = _recalled(memory)
    threads = cores()
    waiting: deque[tuple[T, str, Future[Answer] | Answer]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with memory.open("a") as lines:

            def answered() -> tuple[T, Answer]:
                item, key, answer = waiting.popleft()
                if isinstance(answer, Future):
                    try:
                        answer = answer.result()
                    except DataError as error:
                        if not lenient:
                            cure = "Mend or remove it, or pass --skip-unreadable"
                            raise DataError(f"{str(error).rstrip('.')}. {cure}") from None
                        return item, {"unreadable": str(error)}
                    lines.write(json.dumps([key, answer]) + "\n")
                    lines.flush()
                return item, answer

            for item in items:
                path, *more = about(item)
                key = "|".join([path, state_of(path), *more])
                waiting.append((item, key, known[key] if key in known else pool.submit(ask, item)))
                if len(waiting) > 2 * threads:
                    yield answered()
            while waiting:
                yield answered()
    finally:
        pool.shutdown(cancel_futures=True)


def tags(path: str) -> Answer:
    """The header of a file, or that it is no DICOM file."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - a Path for each of 100,000 files costs seconds
            if stream.read(132)[128:] != _MARK:
                return {}
    except OSError as error:
        raise DataError(f"'{shown(path)}' cannot be opened ({error.strerror})") from None
    return asdict(read_header(Path(path)))


def header_of(answer: Answer) -> Header | None:
    """What `tags` told; None of what has no tags."""
    if "instance" not in answer:
        return None
    return Header(**{**answer, "image_type": tuple(answer["image_type"])})


def patches(film: Film) -> Answer:
    """Where patches can be cut from a film, how many were refused for what, and where the chest wall is seen.

    All places are those of the film as it is stored, whichever way it faces.
    """
    stored = read_dicom(Path(film.path))
    image = grey8(stored)
    if film.normal:
        boxes, refused = normal_boxes(image, offset_of(film))
        named = {f"blocks that {why}": count for why, count in refused.items()}
    else:
        ellipses = find_ellipses(image)
        boxes, refused = lesion_boxes(image, ellipses)
        named = {f"patches about an ellipse that {why}": count for why, count in refused.items()}
        named |= {} if ellipses else {"films of BI-RADS 0 or 2 without an ellipse": 1}
    wall = _wall(stored) if boxes else ""
    return {"corners": [(box.x, box.y) for box in boxes], "refused": named, "wall": wall}


def offset_of(film: Film) -> tuple[int, int]:
    """Where the blocks of a film start, drawn by what names its content; each of the 128 x 128 is as likely."""
    down, across = divmod(int(digest("screening blocks", film.content), 16) % RULES.side**2, RULES.side)
    return across, down


def _wall(image: NDArray[np.uint16]) -> str:
    try:
        return wall_side(breast_mask(image))
    except DataError:  # no breast is seen
        return ""


def boxes_of(answer: Answer) -> list[Box]:
    """What `patches` told."""
    return [Box(x, y, RULES.side, RULES.side) for x, y in answer["corners"]]


def assessments(table: Path, root: Path, counted: Counter[str]) -> tuple[str, dict[str, str]]:
    """The column by which films are found, and the BI-RADS of each.

    Args:
        table: A csv with `birads` and one of `KEYS`.
        root: What paths in it are below.
        counted: Grows by what is left out.
    """
    frame = read_table(table, ("birads",))
    column = next((key for key in KEYS if key in frame), "")
    if not column:
        raise DataError(f"table '{table}' names no film; expected one of the columns {', '.join(KEYS)} beside birads")
    found: dict[str, str] = {}
    for key, word in zip(frame[column], frame["birads"], strict=True):
        if not key or not word:
            counted[f"lines of the table without {'a birads' if key else column}"] += 1
            continue
        match = _BIRADS.fullmatch(word)
        if match is None:
            raise DataError(f"birads '{word}' of {column} '{key}' in '{table}' is not known; write 0 to 6")
        key = relative(key, root) if column == "path" else key
        if found.setdefault(key, match[1]) != match[1]:
            raise DataError(
                f"{column} '{key}' has BI-RADS {found[key]} and {match[1]} in '{table}'; give it one, or name films "
                "more exactly (by exam, instance or path)"
            )
    return column, found


def relative(path: str, root: Path) -> str:
    """A path as a table may have it (absolute, with backslashes, composed otherwise), below the root."""
    plain = path.replace("\\", "/")
    for base in (f"{root.as_posix()}/", f"{root.resolve().as_posix()}/", "./"):
        plain = plain.removeprefix(base)
    return unicodedata.normalize("NFC", plain)


def _recalled(memory: Path) -> dict[str, Answer]:
    """What was written whole; a line that was being written is cut off, so that the next one starts anew."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    if not memory.exists():
        return {}
    known: dict[str, Answer] = {}
    whole = 0
    with memory.open("rb+") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                key, answer = json.loads(line)
            except ValueError:  # a damaged line: the file is asked again
                continue
            known[key] = answer
        lines.truncate(whole)
    return known
