"""Write a dataset's images, as they are decoded, beside a table that `--dataset table` reads back identically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo_lightning.datamodules.base import MADE, MammoDataModule
from mammo_lightning.datamodules.table import ABOUT
from mammo_lightning.errors import DataError
from mammo_lightning.progress import Progress
from mammo_lightning.tracking.files import write_whole
from mammo_lightning.types import digest

TABLE = "images.csv"
FIRST = ("path", "image", "patient", "label")


def extract(data: MammoDataModule, folder: Path, progress: Progress) -> Path:
    """Write every image, then the table; what an interrupted call wrote is kept.

    Args:
        data: A dataset that is set up.
        folder: Where to write: empty, or with an earlier extraction of the same images.
        progress: Shows how far it is.
    """
    about = {
        "table": TABLE,
        "dataset": data.name,
        "digest": data.digest,
        "source": data.source,
        "synthetic": data.synthetic,
        "holdout_share": data.holdout_share,
        "classes": list(data.classes),
        "targets": list(data.targets),
        "sides": list(data.sides),
        "sampling": data.sampling,
        "spacing_mm": data.spacing_mm,
        "answers": list(data.answers),
        "official": data.official,
        "domain": data.domain,
        "words": [column for column in data.subgroups if not pd.api.types.is_numeric_dtype(data.frame[column])],
        "licence": data.origin.licence if data.origin else "",
        "citation": data.origin.citation if data.origin else "",
    }
    _claim(folder, about)
    names = [_name(image, data.images) for image in data.frame["image"]]
    for position, name in progress.loop(enumerate(names), "writing", len(names)):
        path = folder / name
        if not path.is_file():  # each is written whole or not at all
            path.parent.mkdir(exist_ok=True)
            write_whole(path, _encoded(np.asarray(data.images[position])))
    table = _table(data, names)
    write_whole(folder / TABLE, table.to_csv(index=False).encode("utf-8"))
    return folder / TABLE


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Refuse a folder that holds anything else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / ABOUT
        if known.is_file():
            before = json.loads(known.read_text())
            if before.get("digest") != about["digest"]:
                raise DataError(
                    f"--out '{folder}' holds patches of {before.get('dataset')!r} as they were extracted with other "
                    "options or from other files; pass an empty folder"
                )
        elif any(folder.iterdir()):
            raise DataError(f"--out '{folder}' is not empty, and holds no extracted patches; pass an empty folder")
        write_whole(known, json.dumps(about, indent=2).encode())
    except OSError as error:
        raise DataError(f"--out '{folder}' cannot be written to ({error.strerror}); pass another folder") from None
    except ValueError:
        raise DataError(f"'{folder / ABOUT}' is damaged; remove the folder, or pass an empty one") from None


def _name(image: str, images: NDArray[Any]) -> str:
    """A file name that says nothing: neither the class nor the place in the list can be read from it."""
    picture = images.shape[1] in (1, 3) and images.dtype in (np.uint8, np.uint16)
    word = digest("extract", image)
    return f"{word[:2]}/{word}.{'png' if picture else 'npy'}"


def _encoded(planes: NDArray[Any]) -> bytes:
    """One image, C x H x W, without loss: PNG where that can hold it."""
    image = planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)
    if image.dtype in (np.uint8, np.uint16) and (image.ndim == 2 or image.shape[2] == 3):
        _, content = cv2.imencode(".png", image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))
        return content.tobytes()
    import io

    buffer = io.BytesIO()
    np.save(buffer, image, allow_pickle=False)
    return buffer.getvalue()


def _table(data: MammoDataModule, names: list[str]) -> pd.DataFrame:
    frame = data.frame.drop(columns=[*MADE, "path", "box"], errors="ignore")
    frame = frame.assign(path=names, label=frame["label"].map(dict(enumerate(data.classes))))
    filled = [column for column in frame.columns if frame[column].astype(str).ne("").any()]
    return frame[[*FIRST, *(column for column in filled if column not in FIRST)]]
