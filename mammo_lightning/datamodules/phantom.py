"""Mammogram-like patches from a seed: attenuation, detector, noise. Pure functions; `synthetic.py` is the dataset.

Everything up to the detector is a map of log attenuation (attenuation coefficient times path, about 20 keV):

* tissue: fat with a glandular fraction that follows a power-law spectrum (exponent about 3) stretched along the ducts,
  and thin ligaments; its amplitude follows from breast density and compressed thickness;
* distractors, drawn without looking at the label: lone specks, vessels, tissue edges;
* lesions in positive patches only: a mass displaces tissue by slightly more attenuating tissue over its own depth,
  so it fades in dense breasts; a cluster is 4-15 specks of calcium of 0.1-0.5 mm;
* detector: blur, quantum noise (digital) or grain (film), and a straight or S-shaped response whose exposure and
  gain belong to the patient and differ little between her views. It never looks at the pixels of a patch.

Patients are drawn in blocks of `BLOCK`, each from (seed, stream, block number) alone: a patient is the same in pixels
however many are asked for (on one machine; another processor may round a pixel by one grey level of 65,536).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import irfft2
from scipy.special import expit, ndtr

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]
Images = NDArray[np.uint16]

VERSION = 1
BLOCK = 32
SIDE = 64
PIXEL_MM = 0.15
EXPONENT = 3.0
VIEWS = ("CC", "MLO")
DENSITIES = ("A", "B", "C", "D")
LESIONS = ("none", "round", "spiculated", "calcification")
#: probability that a patient has a lesion
PREVALENCE = 0.25
#: difference in attenuation between gland and fat, per mm
GLAND = 0.033

_EDGE = SIDE + 2  # one pixel around the patch, which the blur uses up
_FIELD = (80, 160)  # both patches of a view and 2 mm around them, so that opposite edges do not match
_AXIS = ((np.arange(_EDGE) - (_EDGE - 1) / 2) * PIXEL_MM).astype(np.float32)


def generate(
    seed: int, start: int, count: int, *, stream: int = 0, lesions: bool = True, source_follows_label: bool = False
) -> tuple[Images, pd.DataFrame]:
    """Patients `start` to `start + count` of a seed: four patches each (2 views x 2), ordered by patient, view, patch.

    Args:
        seed: Which world of patients.
        start: First patient number.
        count: How many patients.
        stream: Patients of different streams share nothing (the dataset is stream 0, fresh patients are stream 1).
        lesions: False leaves the lesions out and everything else as it is, labels included.
        source_follows_label: Plant a shortcut: 97 % of lesion patches are film, 97 % of the others digital.

    Returns:
        Images (4 x count, 64, 64), uint16, dense tissue bright; and a frame: patient (number), view, patch (1, 2),
        label, source, density, lesion, contrast (peak of the lesion in standard deviations of the tissue behind it).
    """
    blocks = range(start // BLOCK, -(-(start + count) // BLOCK))
    parts = [_block(seed, stream, block, lesions, source_follows_label) for block in blocks]
    images = np.concatenate([np.empty((0, SIDE, SIDE), np.uint16), *(images for images, _ in parts)])
    frame = pd.concat([frame for _, frame in parts], ignore_index=True) if parts else pd.DataFrame()
    rows = slice(4 * (start % BLOCK), 4 * (start % BLOCK + count))
    return images[rows], frame[rows].reset_index(drop=True)


def _block(seed: int, stream: int, block: int, lesions: bool, follow: bool) -> tuple[Images, pd.DataFrame]:
    rng = np.random.default_rng((block, stream, seed))  # the seed last: a large one takes several words
    kind = np.where(rng.random(BLOCK) < PREVALENCE, rng.integers(1, len(LESIONS), BLOCK), 0)
    where = rng.integers(0, 2, (BLOCK, 2))
    label = np.zeros((BLOCK, 2, 2), np.int64)
    np.put_along_axis(label, where[..., None], (kind > 0).astype(np.int64)[:, None, None], axis=2)
    density = rng.choice(len(DENSITIES), BLOCK, p=(0.1, 0.4, 0.4, 0.1))
    film = np.repeat(rng.random(BLOCK) < 0.5, 4)
    follows = (rng.random(BLOCK * 4) < 0.97) == (label.ravel() == 1)
    gland = np.array((0.1, 0.22, 0.4, 0.62))[density] * np.exp(rng.normal(0, 0.12, BLOCK))
    thickness = rng.uniform(35, 65, BLOCK)
    tissue = _tissue(rng, gland, thickness)
    shown = tissue + _distractors(rng)
    patients = np.flatnonzero(kind)
    lesion = _lesions(rng, kind, gland)
    rows = ((patients[:, None] * 2 + np.arange(2)) * 2 + where[patients]).ravel()
    contrast = np.zeros(BLOCK * 4)
    contrast[rows] = lesion.max(axis=(1, 2)) / tissue[rows].std(axis=(1, 2))
    if lesions:
        shown[rows] += lesion
    # automatic exposure evens out most, not all, of what density and thickness do to brightness
    surplus = 0.35 * (GLAND * gland * thickness - 0.55) + 0.25 * 0.045 * (thickness - 50)
    film = follows if follow else film
    images = _detect(rng, shown, film, surplus)
    frame = pd.DataFrame(
        {
            "patient": np.repeat(np.arange(block * BLOCK, (block + 1) * BLOCK), 4),
            "view": np.tile(np.repeat(VIEWS, 2), BLOCK),
            "patch": np.tile((1, 2), BLOCK * 2),
            "label": label.ravel(),
            "source": np.where(film, "film", "digital"),
            "density": np.repeat(np.array(DENSITIES)[density], 4),
            "lesion": np.where(label.ravel() == 1, np.repeat(np.array(LESIONS)[kind], 4), LESIONS[0]),
            "contrast": contrast,
        }
    )
    return images, frame


def _by_view(rng: np.random.Generator, patient: Numbers, spread: float) -> Numbers:
    """A patient's value in each of her views: nearly the same."""
    return np.repeat(patient, 2) + rng.normal(0, spread, 2 * len(patient))


@lru_cache(maxsize=1)
def _frequencies() -> tuple[Floats, Floats, Floats]:
    """Log frequency and the cosine and sine of twice its direction, on the half plane of a real transform."""
    y, x = np.fft.fftfreq(_FIELD[0], PIXEL_MM)[:, None], np.fft.rfftfreq(_FIELD[1], PIXEL_MM)[None]
    frequency, turn = np.hypot(y, x), 2 * np.arctan2(y, x)
    frequency[0, 0] = 1.0
    return np.log(frequency).astype(np.float32), np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)


def power_law(
    rng: np.random.Generator, exponent: Numbers, stretch: Numbers, direction: Numbers, *, lowest: int = 81
) -> Floats:
    """Fields of unit variance, one an `exponent`, whose power falls with frequency to that exponent.

    `stretch` (0 to 1) makes structures longer across `direction` (radians); only the `lowest` frequencies are drawn.
    """
    log_frequency, cosine, sine = (part[:, :lowest] for part in _frequencies())
    part = [value.astype(np.float32)[:, None, None] for value in (exponent, stretch, direction)]
    elongation = 1 + part[1] * (np.cos(2 * part[2]) * cosine + np.sin(2 * part[2]) * sine)
    power = np.exp(-part[0] * (log_frequency + 0.5 * np.log(elongation)))
    power[:, 0, 0] = 0.0
    power[:, lowest : 1 - lowest] = 0.0
    power[:, :, 0] *= 2  # a real transform counts the other columns twice over
    total = (4 * power[:, :, 1:].sum(axis=(1, 2)) + power[:, :, 0].sum(axis=1)) / np.prod(_FIELD)
    spectrum = rng.standard_normal((*power.shape, 2), np.float32).view(np.complex64)[..., 0]
    spectrum *= np.sqrt(power / total[:, None, None].astype(np.float32))
    field: Floats = irfft2(spectrum, s=_FIELD, norm="ortho", overwrite_x=True)
    return field


def _tissue(rng: np.random.Generator, gland: Numbers, thickness: Numbers) -> Floats:
    """Attenuation of normal tissue about its mean, (4 x patients, edge, edge)."""
    count = len(gland)
    exponent = _by_view(rng, rng.normal(EXPONENT, 0.15, count), 0.05)
    stretch = np.clip(_by_view(rng, rng.uniform(0.1, 0.7, count), 0.05), 0, 0.8)
    direction = rng.uniform(0, np.pi, 2 * count)
    texture = _patches(power_law(rng, exponent, stretch, direction))
    sheets = _patches(power_law(rng, exponent + 1.5, stretch, direction, lowest=20))
    fraction = 0.12 * np.sqrt(gland * (1 - gland)) * np.exp(rng.normal(0, 0.2, count))
    # a ligament is a sheet seen on edge, where a smooth field crosses zero
    ligaments = np.exp(np.abs(sheets) * np.float32(-1 / 0.07))
    width = rng.uniform(0.5, 4.0, count)
    return _column(GLAND * thickness * fraction, 4) * texture + _column(GLAND * width, 4) * ligaments


def _patches(field: Floats) -> Floats:
    """The two patches of each view, one pixel wider than shown on each side."""
    pairs = np.stack([field[:, 7 : 7 + _EDGE, left : left + _EDGE] for left in (7, 87)], axis=1)
    return pairs.reshape(-1, _EDGE, _EDGE)


def _column(values: Numbers, repeat: int) -> Floats:
    """One value a patch, to be multiplied with images."""
    return np.repeat(values, repeat).astype(np.float32)[:, None, None]


def _specks(centres: Numbers, diameter: Numbers, attenuation: Numbers, shape: Numbers) -> Floats:
    """Specks (n, k) at `centres` (n, k, 2) in mm, each of three grains at `shape` (n, k, 3, 2), as pixels see them."""
    grain = (diameter * 3 ** (-1 / 3))[..., None]
    places = centres[:, :, None] + shape * 0.3 * diameter[..., None, None]
    edges = (np.arange(_EDGE + 1) - _EDGE / 2) * PIXEL_MM
    sigma = (grain / np.sqrt(20))[..., None, None]  # a ball's second moment
    covered = np.diff(ndtr((edges - places[..., None]) / sigma), axis=-1).astype(np.float32)
    covered = covered.reshape(len(centres), -1, 2, _EDGE)
    volume = np.repeat((attenuation * np.pi / 6)[..., None] * grain**3 / PIXEL_MM**2, 3, axis=-1)
    rows = covered[:, :, 0] * volume.reshape(len(centres), -1, 1).astype(np.float32)
    added: Floats = np.matmul(rows.swapaxes(1, 2), covered[:, :, 1])
    return added


def _diameters(rng: np.random.Generator, count: int, slots: int) -> Numbers:
    """Speck sizes in mm: alike within a cluster, from 0.1 to 0.5 over all."""
    typical = np.exp(rng.uniform(np.log(0.16), np.log(0.4), (count, 1)))
    sizes: Numbers = np.clip(typical * np.exp(rng.normal(0, 0.25, (count, slots))), 0.1, 0.5)
    return sizes


def _distractors(rng: np.random.Generator) -> Floats:
    """What is bright and no lesion: lone specks, vessels, tissue edges; every patch alike, whatever its label."""
    count = BLOCK * 4
    size = np.repeat(_diameters(rng, count, 1), 2, axis=1)
    calcium = rng.uniform(0.6, 1.6, (count, 2)) * (rng.random((count, 2)) < 0.15)
    added = _specks(rng.uniform(-4.6, 4.6, (count, 2, 2)), size, calcium, rng.normal(0, 1, (count, 2, 3, 2)))

    angle, offset = rng.uniform(0, 2 * np.pi, (2, count)), rng.uniform(-3.5, 3.5, (2, count))
    bend, wave = rng.normal(0, 0.04, (2, count)), rng.uniform(0, 2 * np.pi, count)
    width, depth = rng.uniform(0.2, 0.6, count), rng.uniform(0.3, 1.6, count)
    softness, step = rng.uniform(0.15, 0.8, count), rng.uniform(2, 9, count)
    chosen = rng.random((2, count))
    for which, rate in ((0, 0.25), (1, 0.15)):
        rows = np.flatnonzero(chosen[which] < rate)
        part = [_column(value[which][rows], 1) for value in (angle, offset, bend)]
        along = np.cos(part[0]) * _AXIS[:, None] + np.sin(part[0]) * _AXIS
        across = np.cos(part[0]) * _AXIS - np.sin(part[0]) * _AXIS[:, None] - part[1] + part[2] * along**2
        if which == 0:
            wavy = across + 0.25 * np.sin(along + _column(wave[rows], 1))
            added[rows] += _column(GLAND * depth[rows], 1) * np.exp(-0.5 * np.square(wavy / _column(width[rows], 1)))
        else:
            added[rows] += _column(GLAND * step[rows], 1) * (expit(across / _column(softness[rows], 1)) - 0.5)
    return added


def _lesions(rng: np.random.Generator, kind: NDArray[np.int64], gland: Numbers) -> Floats:
    """Attenuation that lesions add, two views of each lesion patient in order, (2 x lesion patients, edge, edge)."""
    count = len(kind)
    excess = rng.uniform(1.05, 1.4, count) - gland  # of the mass over what it displaces, in units of GLAND
    radius = np.exp(rng.uniform(np.log(1.8), np.log(3.6), count))
    depth = rng.uniform(0.6, 1.1, count)  # against the radius: a mass is hard and keeps its depth under compression
    centre = rng.uniform(-1.5, 1.5, (count, 2, 2))
    lobes = np.stack((rng.normal(0, 1, (count, 2, 4)), rng.uniform(0, 2 * np.pi, (count, 2, 4))), axis=-1)
    spicules = rng.uniform(0, 1, (count, 2, 14, 4))
    number = rng.integers(4, 16, (count, 1))
    size = _diameters(rng, count, 15)
    calcium = rng.uniform(0.6, 1.6, (count, 1)) * (np.arange(15) < number)
    place = np.clip(rng.normal(0, 1, (count, 15, 3)), -2, 2) * rng.uniform(0.7, 1.6, (count, 1, 1))
    shape = rng.normal(0, 1, (count, 2, 15, 3, 2))
    added = []
    for i in np.flatnonzero(kind):
        for view in range(2):
            if LESIONS[kind[i]] == "calcification":
                seen = place[i][None, :, [0, 1 + view]] + centre[i, view]
                added.append(_specks(seen, size[i : i + 1], calcium[i : i + 1], shape[i : i + 1, view])[0])
            else:
                strands = spicules[i, view] if LESIONS[kind[i]] == "spiculated" else None
                added.append(_mass(centre[i, view], radius[i], depth[i], excess[i], lobes[i, view], strands))
    return np.stack(added) if added else np.zeros((0, _EDGE, _EDGE), np.float32)


def _mass(
    centre: Numbers,
    radius: float,
    depth: float,
    excess: float,
    lobes: Numbers,
    spicules: Numbers | None,
) -> Floats:
    """One view of a mass: an ellipsoid with a lobed outline, or a soft core with spicules."""
    y, x = _AXIS[:, None] - np.float32(centre[0]), _AXIS[None] - np.float32(centre[1])
    distance, angle = np.hypot(y, x), np.arctan2(y, x)
    outline = np.ones_like(distance)
    for order, (height, phase) in enumerate(lobes.astype(np.float32), start=2):
        outline += height * np.float32((0.05 if spicules is None else 0.1) / order**0.5) * np.cos(order * angle + phase)
    inside = np.square(distance / (np.float32(radius) * np.maximum(outline, np.float32(0.5))))
    if spicules is None:
        path: Floats = np.sqrt(np.maximum(1 - inside, 0))
    else:
        path = np.exp(np.float32(-1.5) * inside)
        turn, length, wide, bend = spicules.T.astype(np.float32)[..., None, None]
        towards = angle - 2 * np.float32(np.pi) * turn - (bend - np.float32(0.5)) * distance / 4
        off, out = distance * np.sin(towards), distance * np.cos(towards)
        # strands start at the margin: inside, they are the mass
        reach = expit((np.float32(radius * 1.2) * (1 + length) - out) * 3) * expit((out - np.float32(0.7 * radius)) * 5)
        strands = (1 + wide) * reach * np.exp(-0.5 * np.square(off / (np.float32(0.12) + wide / 10)))
        path += strands.sum(axis=0) / np.float32(2 * radius * depth)
    path *= np.float32(GLAND * excess * 2 * radius * depth)
    return path


def _detect(rng: np.random.Generator, shown: Floats, film: NDArray[np.bool_], surplus: Numbers) -> Images:
    """Blur, noise and response of film or a digital detector; exposure and gain by patient, nearly equal by view."""
    on_film = film[:, None, None]
    exposure = _column(_by_view(rng, surplus + rng.normal(0, 0.12, BLOCK), 0.02), 2)
    gain = _column(np.exp(_by_view(rng, rng.normal(0, 0.15, BLOCK), 0.02)), 2)
    relative = _column(np.exp(rng.uniform(np.log(0.009), np.log(0.016), BLOCK)), 4)
    grain = _column(np.exp(rng.uniform(np.log(0.015), np.log(0.03), BLOCK)), 4)
    sigma = _column(rng.uniform(0.9, 1.1, BLOCK), 4) * np.where(on_film, 0.095, 0.07).astype(np.float32)
    noise = rng.standard_normal(shown.shape, np.float32)
    blurred = _blur(shown + np.where(on_film, grain, np.float32(0)) * noise, 0.5 * np.square(sigma / PIXEL_MM))
    # fewer quanta arrive behind dense tissue
    quanta = np.where(on_film, np.float32(0), relative) * np.exp(0.5 * np.minimum(blurred, 1.5)) * noise[:, 1:-1, 1:-1]
    level = gain * (blurred + quanta + exposure)
    value = expit(np.where(on_film, np.float32(3.6), np.float32(2.8)) * level)
    images: Images = np.rint(value * 65535).astype(np.uint16)
    return images


def _blur(values: NDArray[Any], share: NDArray[Any]) -> Floats:
    """A 3 x 3 kernel that gives `share` (half its variance in pixels) to either neighbour; loses the outer pixel."""
    middle = 1 - 2 * share
    rows = share * (values[:, :-2] + values[:, 2:]) + middle * values[:, 1:-1]
    blurred: Floats = share * (rows[:, :, :-2] + rows[:, :, 2:]) + middle * rows[:, :, 1:-1]
    return blurred
