"""CBIS-DDSM: masses and calcifications of digitised films, with pathology."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MammoDataModule, Origin
from mammo_lightning.datamodules.cbis_arrays import are_arrays, array_rows, patches_of, tensor
from mammo_lightning.datamodules.cbis_films import Cut, Cutter, Shown, read_film, surveyed, wall_of
from mammo_lightning.datamodules.cbis_tcia import CSV, LAYOUT, Lesion, Library, lesions_of
from mammo_lightning.datamodules.contents import state_of
from mammo_lightning.datamodules.files import shown, walk
from mammo_lightning.datamodules.quick import quick_look
from mammo_lightning.errors import DataError, SettingsError, one_of
from mammo_lightning.preprocessing.patches import Box, squared
from mammo_lightning.registry import DATASETS
from mammo_lightning.types import digest

TARGETS = ("baseline", "mass_benign", "calc_benign", "mass_malignant", "calc_malignant")
#: the classes of each task, and the columns that follow from its label
TASKS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "mass_calc": (("mass", "calcification"), ("abnormality",)),
    "benign_malignant": (("benign", "malignant"), ("pathology", "assessment")),
    "five_class": (("rest", "malignant"), ("abnormality", "pathology", "assessment", "subtlety")),
}
#: what the reader saw in the lesion; what there is to be seen differs between masses and calcifications
READ = ("mass_shape", "mass_margins", "calc_type", "calc_distribution")
CROPS, CALLBACKS = ("field", "bbox"), ("benign", "drop")
WITHOUT = "benign without callback"
OTHER_SIDE = "patches of films whose chest wall is seen on the other side than the csv says; the csv was believed"
#: nine in ten official crops (of calcifications) are less than this across; wider, and specks drown when resized
FIELD_MM = 40.0
#: the Howtek 960, which digitised most of DDSM's volumes; DBA 0.042, Lumisys 0.05. The files tell neither scanner nor
#: spacing, and it may not be guessed from the pathology, which went with the scanner
SPACING_MM = 0.0435


@DATASETS.register("cbis_ddsm")
class CbisDdsm(MammoDataModule):
    """Abnormalities in films of DDSM with masks and pathology, read again by a radiologist.

    Paper: R. S. Lee et al., A curated mammography data set for use in computer-aided detection and diagnosis research,
    Scientific Data 4:170177 (2017). Licence: CC BY 3.0.
    Layout: (a) the download of The Cancer Imaging Archive: the four csv files (one will do) and, anywhere below the
    root, the images as DICOM or as 16-bit PNG of them, found by series UID (folder, `metadata.csv` or tags) or by
    folders such as `Calc-Test_P_00038_LEFT_CC_1`. A patch is cut about the mask from the whole film; where only the
    cropped file is there it is used as it is. (b) four arrays `train_tensor.npy`, `train_labels.npy`,
    `public_test_tensor.npy`, `public_test_labels.npy` (uint16; codes 0 baseline patch, 1 mass benign, 2 mass malignant,
    3 calcification benign, 4 calcification malignant; even index: baseline patch, odd index: its abnormality). They
    tell no patients: a pair stands for one, and a woman may stand on both sides of a split.
    Classes: `task` mass_calc (mass, calcification), benign_malignant (benign, malignant) or five_class (rest,
    malignant; finer: baseline tissue and the four kinds of lesion).
    Patches of right breasts, by the csv, are flipped: the chest wall is to the left. The arrays stay as they are.

    Args:
        task: What is told apart.
        crop: `field`, a square of `field_mm` about the lesion, or `bbox`, 1.2 times its extent and 150 pixels or more.
        field_mm: Side of that square.
        pairs: Give each abnormality its baseline patch (normal tissue of the same film) as a second channel.
        without_callback: What was benign without callback is `benign`, or left out (`drop`).
        base: See `MammoDataModule`.
    """

    name = "cbis_ddsm"
    official: ClassVar[bool] = True
    side: ClassVar[int | None] = 150
    origin = Origin(
        f"{LAYOUT}; or train_tensor.npy, train_labels.npy, public_test_tensor.npy, public_test_labels.npy",
        "https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY",
        "CC BY 3.0",
        "R. S. Lee et al., Scientific Data 4:170177 (2017)",
    )

    def __init__(
        self,
        *,
        task: str = "mass_calc",
        crop: str = "field",
        field_mm: float | None = None,
        pairs: bool = False,
        without_callback: str = "benign",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        for option, value, known in (
            ("task", task, tuple(TASKS)),
            ("crop", crop, CROPS),
            ("without-callback", without_callback, CALLBACKS),
        ):
            if value not in known:
                raise SettingsError(f"--{option} {value!r} is not known; {one_of(known)}")
        if field_mm is not None and (crop != "field" or not 0 < field_mm < 500):
            raise SettingsError(f"--field-mm {field_mm:g} with --crop {crop}; a field has 1 to 500 mm, a bbox has none")
        if pairs and task == "five_class":
            raise SettingsError("--pairs with --task five_class: its baseline patches are images; leave one out")
        self.task, self.crop, self.field_mm = task, crop, field_mm or FIELD_MM
        self.pairs, self.without_callback = pairs, without_callback
        self._chosen = crop != "field" or field_mm is not None or without_callback != "benign"
        self.classes, answers = TASKS[task]
        self.answers = (*answers, *READ)  # type: ignore[misc]
        self.targets = TARGETS if task == "five_class" else ()
        self._instances: dict[str, str] = {}

    def index(self) -> pd.DataFrame:
        """Every abnormality of the task, and for five_class the baseline patches."""
        root = self.needed()
        frame = self._arrays(root) if are_arrays(root) else self._films(root)
        if self.task != "five_class":
            frame = frame[frame["abnormality"] != ""]
        malignant, tissue = frame["pathology"] == "malignant", frame["abnormality"] == ""
        label = frame["abnormality"] == "calc" if self.task == "mass_calc" else malignant
        basis = "annotation" if self.task == "mass_calc" else np.where(tissue, "annotation", "pathology")
        if self.targets:
            kinds: pd.Series = frame["abnormality"] + "_" + np.where(malignant, "malignant", "benign")
            frame = frame.assign(target=kinds.where(~tissue, "baseline"))
        return frame.assign(label=label.astype(int), label_basis=basis)

    def read(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """One patch; with pairs, the abnormality and its baseline patch as two channels."""
        content = self.opened(row["path"])
        if row["path"].endswith(".npy"):
            return patches_of(content, row["image"], self.pairs)
        boxes = [row["box"], row["pair"]] if self.pairs else [row["box"]]
        parts = [Box.parse(box).of(content) if box else content for box in boxes]
        if row["box"] and wall_of(content) not in ("", row["laterality"]):
            self.notice(OTHER_SIDE)
        if row["laterality"] == "R":
            parts = [part[:, ::-1] for part in parts]
        patches = [np.ascontiguousarray(squared(part)) for part in parts]
        return np.stack(patches, axis=-1) if self.pairs else patches[0]

    def open(self, path: str) -> NDArray[Any]:
        """An array, mapped, or the pixels of a film or crop: 16-bit, grey."""
        if path.endswith(".npy"):
            return tensor(Path(path))
        image = read_film(Path(path))
        if image.ndim != 2:
            raise DataError(f"'{shown(path)}' is in colour; the films are grey. Convert them from DICOM again")
        eight = image.dtype != np.uint16 or not (image % 257).any()  # all of 8 bit are multiples of it when stretched
        if eight:
            raise DataError(f"'{shown(path)}' holds 8 bit; the films have 16. Convert them from DICOM without scaling")
        return image

    def contents(self, frame: pd.DataFrame) -> list[str]:
        """What each row is: the bytes of its array, or the instance of its film and its place there."""
        if frame["path"].iloc[0].endswith(".npy"):
            arrays = {path: tensor(Path(path)) for path in frame["path"].unique()}
            rows = zip(frame["path"], frame["image"], strict=True)
            return [digest(patches_of(arrays[path], image, self.pairs).tobytes()) for path, image in rows]
        pairs = frame["pair"] if self.pairs else [""] * len(frame)
        places = zip(frame["path"], frame["box"], pairs, strict=True)
        return [digest(self._instances[path], box, pair) for path, box, pair in places]

    def versions(self, frame: pd.DataFrame) -> list[str]:
        """Size and time of change of each file: one that was mended has the instance that it had."""
        if frame["path"].iloc[0].endswith(".npy"):  # read through as contents
            return []
        states = {path: state_of(path) for path in frame["path"].unique()}
        return [states[path] for path in frame["path"]]

    def _arrays(self, root: Path) -> pd.DataFrame:
        if self._chosen:
            raise SettingsError(
                "--crop, --field-mm and --without-callback mean nothing to the four arrays: their patches are cut and "
                "coded already. Leave them out, or pass the download with its csv files"
            )
        _storable(str(root))
        frame = array_rows(root)
        self.counted["pairs without a patient: each stands for one, and a woman may be on both sides of a split"] = (
            frame["patient"].nunique()
        )
        return frame

    def _films(self, root: Path) -> pd.DataFrame:
        files = list(walk(root)) if root.is_dir() else []
        tables = [path for path in files if CSV.fullmatch(path.name)]
        cure = self.origin.cure if self.origin else ""
        if not tables:
            raise DataError(f"neither csv files nor arrays of CBIS-DDSM under '{root}'; {cure}")
        lesions = lesions_of(tables)
        library = Library(root, files, lesions)
        found = {each.image: (each, self._shown(each, library)) for each in lesions}
        there = {name: each for name, each in found.items() if each[1].marks}
        if not there:
            raise DataError(f"none of {len(lesions)} rows of the csv files has its images under '{root}'; {cure}")
        self._count("rows of the csv files whose images are not there", len(found) - len(there))
        self._count("image files that no row of the csv files names", library.strangers)
        kept = self._kept([lesion for lesion, _ in there.values()])
        views: dict[tuple[str, ...], list[Shown]] = defaultdict(list)
        for lesion, files_of in found.values():  # a film may be there twice: with masses and with calcifications
            views[lesion.patient, lesion.laterality, lesion.view].append(files_of)
        asked = [view for view in views.values() if kept & {each.name for each in view}]
        cutter = Cutter(self.crop, self.field_mm, SPACING_MM, self.pairs or bool(self.targets))
        cuts = surveyed(asked, cutter, self.mlruns / "cache" / "cbis_ddsm-films.jsonl", self.progress)
        rows = [row for name in sorted(kept) for row in self._rows(there[name][0], cuts[name])]
        if not rows:
            reasons = "; ".join(f"{reason}: {number}" for reason, number in self.counted.items())
            raise DataError(f"no patch is left of {len(kept)} abnormalities under '{root}' ({reasons})")
        if self.crop == "field" and self.size and all(row["box"] for row in rows):
            self.spacing_mm = self.field_mm / self.size
        return pd.DataFrame(rows)

    def _shown(self, lesion: Lesion, library: Library) -> Shown:
        return Shown(lesion.image, next(iter(library.find(lesion.film)), None), tuple(library.find(lesion.marks)))

    def _kept(self, lesions: list[Lesion]) -> set[str]:
        """Names of the abnormalities that are asked for."""
        kept = [each for each in lesions if self.without_callback != "drop" or each.pathology != WITHOUT]
        self._count("abnormalities that were benign without callback, left out by choice", len(lesions) - len(kept))
        if self.limit:
            mark = "calc" if self.task == "mass_calc" else "malignant"
            frame = pd.DataFrame([(each.image, each.patient, each.split) for each in kept])
            frame.columns = ["image", "patient", "split"]
            labels = [int(mark in (each.abnormality, each.pathology)) for each in kept]
            return set(quick_look(frame.assign(label=labels), self.limit)["image"])
        return {each.image for each in kept}

    def _rows(self, lesion: Lesion, cut: Cut) -> Iterator[dict[str, Any]]:
        """One row for an abnormality, or two with its baseline patch; none where it has to be left out."""
        if cut.why and not self.lenient:
            raise DataError(f"{cut.why.rstrip('.')}. Mend or remove it, or pass --skip-unreadable")
        self.counted.update(cut.notes)
        alone = not cut.baseline and (self.pairs or bool(self.targets))
        self._count("abnormalities whose files cannot be read", bool(cut.why))
        self._count("pairs left out: no film, or no tissue free of lesions of that size", alone and not cut.why)
        if cut.why or alone:
            return
        self._instances[cut.path] = cut.instance
        row = {
            "image": lesion.image,
            "path": _storable(cut.path),
            "patient": lesion.patient,
            "laterality": lesion.laterality,
            "view": lesion.view,
            "lesion": f"{lesion.laterality} {lesion.abnormality} {lesion.number}",
            "box": cut.box,
            "spacing_mm": cut.spacing_mm,  # of the file, before a patch of it is resized
            "split": lesion.split,
            "abnormality": lesion.abnormality,
            "pathology": lesion.pathology,
            "pair": cut.baseline if self.pairs else lesion.image,
            **dict(lesion.told),
        }
        yield row
        if self.targets:
            unknown = dict.fromkeys(("lesion", "abnormality", "pathology", *dict(lesion.told)), "")
            density = {"density": dict(lesion.told)["density"]}
            yield row | unknown | density | {"image": f"{lesion.image}-baseline", "box": cut.baseline}

    def _count(self, reason: str, number: int) -> None:
        if number:
            self.counted[reason] += number


def _storable(path: str) -> str:
    """A path that can stand in a table."""
    if shown(path) != path:
        raise DataError(f"'{shown(path)}' lies in a folder whose name is not UTF-8; rename the folder")
    return path
