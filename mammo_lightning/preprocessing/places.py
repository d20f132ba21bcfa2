"""Normal tissue where lesions lie: squares of one breast at the places that lesions have in others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mammo_lightning.preprocessing.breast import Mask, bounds
from mammo_lightning.preprocessing.patches import Box

#: by how much the share of tissue may differ between a square and the one about the lesion whose place it takes
ALIKE = 0.1
#: lesions that are tried first: those of breasts most similar in size (the pectoral muscle covers more of a small one)
NEAREST = 12
#: labels and tape that touch the breast are narrower than this share of the film
NARROW = 0.04
#: a mask may have been found in larger pixels: its outline is off by so many
OFF = 4


class Place(NamedTuple):
    """Where a lesion lies in its breast, the chest wall to the left: across and down its bounds."""

    across: float
    down: float
    tissue: float  # share of the square about it
    breast: Box

    @classmethod
    def of(cls, centre: tuple[float, float], box: Box, mask: Mask, laterality: str) -> Place:
        """The place of one lesion.

        Args:
            centre: Its centre in the film.
            box: The square about it.
            mask: Where the breast is.
            laterality: `R` where the chest wall is to the right.
        """
        breast = bounds(mask)
        across = (centre[0] - breast.x) / breast.width
        across = 1 - across if laterality == "R" else across
        return cls(across, (centre[1] - breast.y) / breast.height, float(box.of(mask).mean()), breast)

    def within(self, breast: Box, laterality: str) -> tuple[float, float]:
        """The same place in another breast."""
        across = 1 - self.across if laterality == "R" else self.across
        return breast.x + across * breast.width, breast.y + self.down * breast.height

    def unlike(self, breast: Box) -> float:
        """By how much its breast differs from another in size."""
        return float(abs(np.log(self.breast.width / breast.width)) + abs(np.log(self.breast.height / breast.height)))


def without_narrow(mask: Mask) -> Mask:
    """A breast without what is narrow and touches it: tape, labels, the film's edge."""
    across = round(NARROW * max(mask.shape)) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
    count, names, stats, _ = cv2.connectedComponentsWithStats(
        cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc)
    )
    if count < 2:
        return mask
    return np.asarray(names == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def beside_wall(box: Box, mask: Mask, laterality: str) -> Box:
    """Moved as little as it takes to lie in the film, and not beyond the chest wall, where films are padded."""
    breast = bounds(mask)
    if breast.width < box.width:
        return box.shifted_into(mask.shape)
    first, last = breast.x + OFF, breast.x + breast.width - OFF
    left = min(box.x, last - box.width) if laterality == "R" else max(box.x, first)
    return box._replace(x=left).shifted_into(mask.shape)


def normal_boxes(
    mask: Mask, laterality: str, places: Sequence[Place], *, side: int, count: int, rng: np.random.Generator
) -> list[Box]:
    """Squares in a breast without lesion that lie as lesions lie in others; none shares a pixel with another.

    Args:
        mask: Where the breast is.
        laterality: `R` where the chest wall is to the right.
        places: Those of all lesions.
        side: Of a square, in pixels.
        count: How many are wanted; fewer are found where they do not fit.
        rng: In which order places of similar breasts are tried.
    """
    breast = bounds(mask)
    order = sorted(places, key=lambda place: place.unlike(breast))
    order = [*(order[index] for index in rng.permutation(min(NEAREST, len(order)))), *order[NEAREST:]]
    found: list[Box] = []
    for model in order:
        box = beside_wall(Box.centred(*model.within(breast, laterality), side), mask, laterality)
        alike = abs(float(box.of(mask).mean()) - model.tissue) <= ALIKE
        if alike and not any(box.overlaps(other) for other in found):
            found.append(box)
        if len(found) == count:
            break
    return found
