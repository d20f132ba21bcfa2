"""Files below a folder and tables beside them, read as people really have them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from mammo_lightning.errors import DataError

DELIMITERS = ",;\t|"
#: what no spreadsheet writes: it stands in a file that is something else, or broken
CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ufffd]")


def walk(root: Path) -> Iterator[Path]:
    """Every regular file below a folder, in order of name; a folder that links lead to twice is entered once.

    Names that begin with a dot, and `__MACOSX`, are the system's: copies of an archive bring them along.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [iter(_entries(str(root), entered))]  # a stack, for folders may be nested deeper than Python calls
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
        elif is_kind(entry.is_dir):
            waiting.append(iter(_entries(entry.path, entered)))
        elif is_kind(entry.is_file):
            yield Path(entry.path)


def _entries(folder: str, entered: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    try:
        about = os.stat(folder)  # noqa: PTH116
        if (about.st_dev, about.st_ino) in entered:
            return []
        entered.add((about.st_dev, about.st_ino))
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"folder '{shown(folder)}' cannot be read ({error.strerror}); check its permissions") from None
    return sorted(found, key=lambda entry: entry.name)


def is_kind(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; a link that leads nowhere, or round in a circle, is of none."""
    try:
        return kind()
    except OSError:
        return False


def shown(name: object) -> str:
    """A name that may hold bytes of no encoding, as it can be printed and stored."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def plain(path: Path) -> str:
    """A path as a table can hold it; one that is not UTF-8 cannot be."""
    if shown(path) != str(path):
        raise DataError(f"'{shown(path)}' is not UTF-8 as names of files are here; rename it, or the folder it is in")
    return str(path)


def read_table(path: Path, needed: Sequence[str] = (), *, filled: Sequence[str] = ()) -> pd.DataFrame:
    """A csv as a frame of words, whatever delimits it (`,` `;` tab `|`) and however it is encoded.

    Args:
        path: The file; heads and cells are stripped, lines without any cell are left out.
        needed: Columns that must be there.
        filled: Columns that must be there and say something in every line.
    """
    needed = list(dict.fromkeys([*needed, *filled]))
    lines = _lines(path)
    if not lines:
        raise DataError(f"table '{path}' is empty; expected a head and a line for each image")
    heads = [head.strip() for head in lines[0][1]]
    if missing := [name for name in needed if name not in heads]:
        raise DataError(
            f"table '{path}' lacks {', '.join(missing)}; expected {','.join(needed)}, found {','.join(heads[:12])}"
        )
    if doubled := [head for head in heads if head and heads.count(head) > 1]:
        raise DataError(f"table '{path}' has two columns '{doubled[0]}'; rename one of them")
    must = [(heads.index(name), name) for name in filled]
    rows = []
    for number, cells in lines[1:]:
        if len(cells) > len(heads) and any(cell.strip() for cell in cells[len(heads) :]):
            raise DataError(
                f"table '{path}' line {number} has {len(cells)} cells under {len(heads)} heads; quote cells that hold "
                "a delimiter"
            )
        if len(cells) < len(heads):
            raise DataError(f"table '{path}' line {number} has {len(cells)} of {len(heads)} cells: it is cut short")
        rows.append([cell.strip() for cell in cells[: len(heads)]])
        if empty := [name for place, name in must if not rows[-1][place]]:
            raise DataError(f"table '{path}' line {number} has no {empty[0]}; fill it in")
    if not rows:
        raise DataError(f"table '{path}' has a head and no line; expected a line for each image")
    return pd.DataFrame(rows, columns=heads, dtype=object).loc[:, [bool(head) for head in heads]]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Cells of every line that holds any, with its number."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"table '{path}' cannot be opened ({error.strerror}); expected a csv file") from None
    text = _text(path, data)
    head = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count)
    # strict: a quote that nothing closes would swallow the lines below it
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"table '{path}' line {reader.line_num} is not csv ({error}); save it as csv again") from None


def _text(path: Path, data: bytes) -> str:
    """UTF-8 or UTF-16 by its mark, else UTF-8 if it is that, else as Windows writes it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise DataError(f"table '{path}' is no text (broken UTF-16); save it as csv in UTF-8") from None
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            try:
                text = data.decode("cp1252")
            except UnicodeDecodeError:
                text = data.decode("latin-1")
    if strange := CONTROL.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        raise DataError(f"table '{path}' is no text (byte {ord(strange[0])} in line {line}); save it as csv again")
    return text
