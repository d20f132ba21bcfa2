"""Files as a bad disk, a broken transfer or a careless hand leaves them."""

from collections.abc import Callable, Iterator

import numpy as np

NUMBERS = (b"0", b"-1", b"1", b"9", b"255", b"65536", b"4294967295", b"99999999999999999999", b"1e999", b"nan", b"0.5")
WORDS = (b",", b";", b"\n", b'"', b"\0", b"\r", b"\xff", b"\xef\xbb\xbf", b"#", b"\t", b"<", b"&", b"%s", b"..", b"/")


def _flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(0, len(data), rng.integers(1, 5)):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def _set(data: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(0, len(data), rng.integers(1, 5)):
        data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    return data


def _span(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(data)))
    return start, min(len(data), start + 1 + int(rng.exponential(max(4, len(data) / 20))))


def _cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(len(data)))]


def _remove(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def _swap(data: bytearray, rng: np.random.Generator) -> bytearray:
    a, b, c = sorted(int(place) for place in rng.integers(0, len(data) + 1, 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _insert(data: bytearray, rng: np.random.Generator) -> bytearray:
    place = int(rng.integers(len(data) + 1))
    word = WORDS[rng.integers(len(WORDS))] if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 40)))
    return data[:place] + word + data[place:]


def _blank(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, end = _span(data, rng)
    data[start:end] = bytes([int(rng.choice([0, 0xFF, 0x20]))]) * (end - start)
    return data


def _number(data: bytearray, rng: np.random.Generator) -> bytearray:
    """One of the numbers written out in it, or a word of two bytes, becomes another."""
    digits = [place for place in range(len(data)) if 48 <= data[place] <= 57]
    if digits and rng.random() < 0.7:
        start = end = digits[int(rng.integers(len(digits)))]
        while end < len(data) and 48 <= data[end] <= 57:
            end += 1
        while start > 0 and 48 <= data[start - 1] <= 57:
            start -= 1
        return data[:start] + NUMBERS[rng.integers(len(NUMBERS))] + data[end:]
    place = int(rng.integers(max(1, len(data) - 1)))
    data[place : place + 2] = int(rng.choice([0, 1, 0x7FFF, 0x8000, 0xFFFF])).to_bytes(2, "little")
    return data


WAYS: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    *(_flip, _set, _cut, _remove, _repeat, _swap, _insert, _blank, _number),
)


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes after one to three accidents; more often near the head, where what matters stands."""
    found = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if not found:
            break
        way = WAYS[rng.integers(len(WAYS))]
        head = int(rng.choice([64, 512, len(found)])) if way is not _cut else len(found)
        part = way(found[:head], rng)
        found = part + found[head:]
    return bytes(found)


def mutants(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """So many of them, no one equal to the data."""
    rng = np.random.default_rng(seed)
    while count:
        changed = mutant(data, rng)
        if changed != data:
            count -= 1
            yield changed
