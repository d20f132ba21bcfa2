"""Screening mammograms with lesions circled in white, as an archive hands them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule, Origin
from mammo_lightning.datamodules.contents import state_of
from mammo_lightning.datamodules.files import shown, walk
from mammo_lightning.datamodules.screening_files import (
    KEYS,
    PATCHES,
    TAGS,
    Film,
    assessments,
    boxes_of,
    header_of,
    patches,
    relative,
    remembered,
    tags,
)
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.preprocessing.dicom import read_dicom
from mammo_lightning.preprocessing.header import Header
from mammo_lightning.preprocessing.patches import Box
from mammo_lightning.registry import DATASETS
from mammo_lightning.types import digest

#: why a file is left out: the five filters of the published archive, then what else is no plain view of a breast.
#: A file counts under the first that holds; an absent tag keeps it, but for the view.
FILTERS: tuple[tuple[str, Callable[[Header], bool]], ...] = (
    ("files without pixels", lambda told: not told.rows or not told.columns),
    ("films without a view position", lambda told: not told.view),
    ("films of a view other than CC and MLO", lambda told: told.view not in ("CC", "MLO")),
    ("films of a sex other than F", lambda told: told.sex not in ("", "F")),
    ("films of breasts with an implant", lambda told: told.implant),
    ("films whose PresentationLUTShape is INVERSE", lambda told: told.inverse),
    ("films whose ImageType is ORIGINAL", lambda told: "ORIGINAL" in (word.upper() for word in told.image_type)),
    ("images of tomosynthesis", lambda told: told.tomosynthesis),
    ("films FOR PROCESSING", lambda told: told.presentation == "processing"),
    ("spot compression films", lambda told: told.spot),
    ("magnification films", lambda told: told.magnification),
    ("films without a PatientID", lambda told: not told.patient),
)
TEST_SHARE = 0.25
#: patients of either stratum without whom a test part is not read, but kept for later
FEWEST = 2


@DATASETS.register("screening")
class Screening(MammoDataModule):
    """Patches of 128 x 128 pixels from screening films: normal tissue, or a lesion that a radiologist circled.

    Paper: the patches of the Pittsburgh archive (UPITT) in a thesis of Carnegie Mellon University on deep SMOTE and
    GANs; the archive is private. Licence: that of your archive.
    Layout: DICOM files below `root`, at any depth and of any name, and `table`, a csv with a column `birads` and one
    of `path` (below the root), `instance` (SOPInstanceUID), `exam` (StudyInstanceUID) or `patient` (PatientID).
    Classes: blocks side by side from films of BI-RADS 1, and patches about the white ellipses in films of BI-RADS 0
    or 2. BI-RADS is a name here and no order: 0 asks for another look.

    Ink: a patch that ink comes nearer to than 10 pixels is refused, so, as in the thesis, a lesion that is circled
    closely is lost (an ellipse must be about 210 pixels across); how many are lost is counted. To paint over the stroke
    would keep them, but a network sees what is painted: alone it told the classes apart at an AUC of 1.0. Painting
    over normal tissue alike, with strokes of other patients, ties patients together across folds (an AUC of 0.44 where
    there is nothing to see) and alters most images.
    White, patches that reach beyond the film or nearer to its edge than 41 pixels, and mostly black ones are refused in
    both classes by the same limits. The blocks of a film start where its SOPInstanceUID draws, anywhere: from its
    corner, all would show the grid of JPEG at one place, which alone told the classes apart at an AUC of 1.0. Both
    cost normal tissue at the chest wall, where the breast meets the film's edge: a strip of 41 to 168 pixels (of
    a drawn breast of 2000 pixels' depth 6 % of the blocks, of 700 13 %, of 400 a third, of 250 over a half).

    Side: right breasts are flipped, the chest wall to the left, by the tag, or where it is silent by the pixels; films
    in which the two differ are counted. A `box` is a place in the film as it is stored, before it is flipped.

    Test: of each stratum about a quarter of the patients, drawn by id alone, so that more files never move anybody
    between training and test. While a stratum has fewer than two patients drawn, there is no test part, and those drawn
    are left out and counted: they wait for it. (One that `--test` makes meanwhile is of these very files.) Where all
    patients of a stratum are drawn, nobody is left to train on, and a study is refused. A third of the others is the
    hold-out (50/25/25).

    Scores of views or patients are not told: normal patients have hundreds of patches and others one or two, and the
    greatest of many is high by itself.
    """

    name = "screening"
    classes = ("normal", "lesion")
    origin = Origin(
        "DICOM files at any depth below --root, and --table with birads and path, instance, exam or patient",
        "your archive (UPITT's is private)",
        "your archive's",
        "Lesion and normal patches of the UPITT mammograms, thesis, Carnegie Mellon University.",
    )
    answers = ("birads",)
    official: ClassVar[bool] = True  # patients who share an image across the split leave train
    holdout_share = 1 / 3  # 50/25/25

    def __init__(self, *, table: Path | None = None, **base: Any) -> None:
        super().__init__(**base)
        if table is None:
            raise SettingsError(
                "what was found in the films must be known: pass --table with a column birads (0, 1 or 2) and one of "
                + ", ".join(KEYS)
            )
        self.table = Path(table)
        #: by what stands in the column `path`: the file, and what names its content
        self._files: dict[str, Path] = {}
        self._instances: dict[str, str] = {}
        self._flipped: set[str] = set()

    def index(self) -> pd.DataFrame:
        """Every patch that can be cut."""
        root = self.needed()
        self.counted.clear()
        memory = self.mlruns / "cache" / "contents" / f"screening-{digest(root.resolve())}"
        memory.mkdir(parents=True, exist_ok=True)
        with FileLock(memory / "lock"):  # others wait, and find all answers
            films = self._films(root, memory / f"tags-{TAGS}.jsonl")
            cuts = self._cuts(films, memory / f"patches-{PATCHES}.jsonl")
        if not cuts:
            left = "; ".join(f"{count} {reason}" for reason, count in self.counted.most_common(3))
            raise DataError(f"no patch can be cut from the files below '{root}' ({left or 'there are none'})")
        frame, waiting = _divided(cuts)
        if waiting:
            self._leave_out(f"patches of patients drawn for a test part (fewer than {FEWEST} of a class)", waiting)
        return frame

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One patch, the chest wall to the left."""
        film, box = self.opened(row["path"]), Box.parse(row["box"])
        if not box.inside(film.shape):
            raise DataError(f"'{shown(row['path'])}' has changed: patch '{box}' leaves it. Start again")
        patch = box.of(film)
        return np.ascontiguousarray(patch[:, ::-1]) if row["path"] in self._flipped else patch

    def open(self, path: str) -> NDArray[Any]:
        """A film as it is stored."""
        return read_dicom(self._files[path])

    def contents(self, frame: pd.DataFrame) -> list[str]:
        """The film by its SOPInstanceUID, and the place in it."""
        return [digest(self._instances[path], box) for path, box in zip(frame["path"], frame["box"], strict=True)]

    def versions(self, frame: pd.DataFrame) -> list[str]:
        """What the pixels of a row depend on beyond that: a file may be mended under its SOPInstanceUID."""
        known = {
            path: digest(state_of(str(self._files[path])), path in self._flipped) for path in frame["path"].unique()
        }
        return [known[path] for path in frame["path"]]

    def _films(self, root: Path, memory: Path) -> list[Film]:
        """The files from which patches are to be cut; for a quick look, a few of either stratum."""
        column, birads = assessments(self.table, root, self.counted)
        files = [str(path) for path in walk(root) if path.name != self.table.name]
        room = Counter(dict.fromkeys((True, False), len(files)))
        if self.limit:
            files.sort(key=lambda path: digest("quick", path))
            room = Counter(dict.fromkeys((True, False), _few(self.limit)))
        told = remembered(memory, files, lambda path: (path,), tags, lenient=self.lenient)
        films: list[Film] = []
        named: set[str] = set()
        for path, answer in self.progress(told, "tags", len(files)):
            header = header_of(answer)
            if header is None:
                self._leave_out("files that cannot be read" if answer else "files that are not DICOM")
                continue
            name = shown(Path(path).relative_to(root).as_posix())
            key = relative(name, root) if column == "path" else getattr(header, column)
            named.add(key)
            film = Film(path, name, header, birads.get(key, ""))
            if why := _unfit(film):
                self._leave_out(why)
                continue
            self._files[shown(path)], self._instances[shown(path)] = Path(path), film.content
            if not self.limit or (room[film.normal] > 0 and not _drawn(header.patient)):
                room[film.normal] -= 1
                films.append(film)
            if max(room.values()) <= 0:
                break
        if not self.limit and (unused := len(birads.keys() - named)):
            self.counted["lines of the table without a file"] += unused
        first: dict[str, Film] = {}
        for film in films:
            if first.setdefault(film.content, film) is not film:
                self._leave_out("copies of a film (the same SOPInstanceUID)")
        return list(first.values())

    def _leave_out(self, why: str, count: int = 1) -> None:
        self.counted[f"{why}, left out"] += count

    def _cuts(self, films: list[Film], memory: Path) -> list[tuple[Film, Box]]:
        """The patches of each film, in order; and which films are to be flipped."""
        cuts: list[tuple[Film, Box]] = []
        self._flipped.clear()
        # by the label, too: a table that is corrected asks another question of the same file
        told = remembered(
            memory, films, lambda film: (film.path, f"normal {film.normal}"), patches, lenient=self.lenient
        )
        for film, answer in self.progress(told, "patches", len(films)):
            if "unreadable" in answer:
                self._leave_out("films that cannot be decoded")
                continue
            for why, count in answer["refused"].items():
                self._leave_out(why, count)
            found = boxes_of(answer)
            if found:
                self._turn(film, answer["wall"])
            if self.limit:
                most = max(1, self.limit // (2 * _few(self.limit)))
                found = sorted(found, key=lambda each: digest("quick", film.name, each))[:most]
            cuts.extend((film, each) for each in found)
        return cuts

    def _turn(self, film: Film, wall: str) -> None:
        """Note whether a film is to be flipped: by its tag, else by where the chest wall is seen."""
        tag = film.header.laterality
        if tag and wall and tag != wall:
            self.counted["films whose side differs by tag and by pixels (the tag is followed)"] += 1
        elif not tag:
            seen = "taken from the pixels" if wall else "not known, not flipped"
            self.counted[f"films without a tag of the side ({seen})"] += 1
        if (tag or wall) == "R":
            self._flipped.add(shown(film.path))


def _unfit(film: Film) -> str:
    """Why a film is not used; empty if it is."""
    for reason, holds in FILTERS:
        if holds(film.header):
            return reason
    if not film.birads:
        return "films that the table gives no BI-RADS"
    return "" if film.birads in ("0", "1", "2") else "films of BI-RADS 3 to 6"


def _divided(cuts: list[tuple[Film, Box]]) -> tuple[pd.DataFrame, int]:
    """The index, about a quarter of the patients of each stratum in its test part, and how many rows wait for one."""
    films = [film for film, _ in cuts]
    headers = [film.header for film in films]
    columns: dict[str, list[Any]] = {
        # corners would tell blocks from what is circled, and a name is seen by who reads blind
        "image": [f"{film.name}#{digest(film.name, box)[:12]}" for film, box in cuts],
        "path": [shown(film.path) for film in films],
        "label": [int(not film.normal) for film in films],
        **{name: [getattr(header, name) for header in headers] for name in ("patient", "exam", "laterality")},
        **{name: [getattr(header, name) for header in headers] for name in ("view", "spacing_mm")},
        "box": [str(box) for _, box in cuts],
        "label_basis": ["assessment" if film.normal else "annotation" for film in films],
        "birads": [f"BI-RADS {film.birads}" for film in films],
        "source": [header.vendor for header in headers],
    }
    frame = pd.DataFrame(columns).astype({"spacing_mm": float})
    frame["split"] = ["test" if _drawn(patient) else "train" for patient in frame["patient"]]
    trained, tested = frame[frame["split"] == "train"], frame[frame["split"] == "test"]
    patients = tested.groupby("label")["patient"].nunique()
    if trained["label"].nunique() == 2 and min(patients.get(label, 0) for label in (0, 1)) < FEWEST:
        return trained, len(tested)
    return frame, 0


def _drawn(patient: str) -> bool:
    """Whether a patient belongs to the test part and is never trained on."""
    return int(digest("screening test part", patient), 16) < TEST_SHARE * 16**16


def _few(limit: int) -> int:
    """Films of a stratum for a quick look."""
    return max(12, limit // 4)
