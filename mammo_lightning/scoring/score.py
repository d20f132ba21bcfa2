"""Every image of a folder scored by a served model: read ahead by threads, in batches, into a csv that grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.datamodules.files import shown
from mammo_lightning.errors import DataError
from mammo_lightning.hardware import cores
from mammo_lightning.preprocessing.images import SUFFIXES
from mammo_lightning.progress import Progress
from mammo_lightning.scoring.reading import images_below, read_pixels
from mammo_lightning.scoring.score_file import ScoreFile, State
from mammo_lightning.tracking.servable import Servable

#: files that a thread takes at a time
TOGETHER = 8
#: bytes of pixels that are read ahead at most, beyond what every thread works on
AHEAD = 2**28


@dataclass(frozen=True)
class Image:
    """A file to be scored, as it is called in the csv."""

    name: str
    path: Path
    state: State


def images_of(place: Path) -> list[Image]:
    """The images below a folder in order of their names, or the one image that was named."""
    if place.is_file():
        return [_image(place.name, place)]
    if not place.is_dir():
        raise DataError(f"no such file or folder '{shown(place)}'; pass an image or a folder of images")
    found = [_image(path.relative_to(place).as_posix(), path) for path in images_below(place)]
    if not found:
        raise DataError(f"no image under '{shown(place)}'; expected {', '.join(SUFFIXES)} or DICOM without suffix")
    return sorted(found, key=lambda image: image.name)


def _image(name: str, path: Path) -> Image:
    try:
        about = path.stat()
    except OSError as error:
        raise DataError(f"'{shown(path)}' cannot be opened ({error.strerror}); check its permissions") from None
    return Image(shown(name), path, (about.st_size, about.st_mtime_ns))


def score_files(
    servable: Servable, images: list[Image], out: ScoreFile, progress: Progress, *, skip_unreadable: bool = False
) -> int:
    """Score what is not scored yet; returns how many were. Whatever stops it, what was scored is written.

    Args:
        servable: The model.
        images: What `images_of` found.
        out: Where scores go, and what is there already.
        progress: Shows how far it is.
        skip_unreadable: List what cannot be read instead of stopping at it.
    """
    out.keep({image.name: image.state for image in images})
    waiting = [image for image in images if image.name not in out.scores]
    before, complete = len(out.scores), False
    try:
        for part, pixels in _batches(progress.loop(_ahead(waiting, servable), "scoring", len(waiting)), servable.batch):
            told = [image for image, each in zip(part, pixels, strict=True) if isinstance(each, DataError)]
            for image, each in zip(part, pixels, strict=True):
                if isinstance(each, DataError):
                    out.unreadable[image.name] = str(each)
            good = [(image, each) for image, each in zip(part, pixels, strict=True) if not isinstance(each, DataError)]
            if good:
                scores = servable(np.stack([each for _, each in good]))
                out.add([image.name for image, _ in good], [image.state for image, _ in good], scores.tolist())
            if told and not skip_unreadable:
                raise DataError(
                    f"{out.unreadable[told[0].name].rstrip('.')}. Mend or remove it, or pass --skip-unreadable"
                )
        if not out.scores:
            raise DataError(
                f"none of {len(images)} images can be scored; the first: {next(iter(out.unreadable.values()))}"
            )
        complete = True
    finally:
        if complete or len(out.scores) > before:
            out.write(complete=complete)
    return len(out.scores) - before


Pixels = NDArray[Any] | DataError


def _batches(results: Iterable[tuple[Image, Pixels]], size: int) -> Iterator[tuple[list[Image], list[Pixels]]]:
    images: list[Image] = []
    pixels: list[Pixels] = []
    for image, each in results:
        images.append(image)
        pixels.append(each)
        if len(images) == size:
            yield images, pixels
            images, pixels = [], []
    if images:
        yield images, pixels


def _ahead(images: list[Image], servable: Servable) -> Iterator[tuple[Image, Pixels]]:
    """The pixels of each image, or why there are none, in order; threads read ahead of who asks."""

    def work(part: list[Image]) -> list[tuple[Image, Pixels]]:
        return [(image, _pixels(image, servable)) for image in part]

    bytes_each = int(np.prod(servable.about.shape)) * np.dtype(servable.about.dtype).itemsize
    together = max(1, min(TOGETHER, AHEAD // bytes_each))
    most = max(cores(), min(2 * servable.batch, AHEAD // bytes_each) // together) + 1
    pool = ThreadPoolExecutor(cores())
    waiting: deque[Future[list[tuple[Image, Pixels]]]] = deque()
    try:
        for start in range(0, len(images), together):
            waiting.append(pool.submit(work, images[start : start + together]))
            if len(waiting) > most:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(image: Image, servable: Servable) -> Pixels:
    try:
        return read_pixels(image.path, servable.about)
    except DataError as error:
        return error
