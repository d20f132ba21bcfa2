"""What a compressed frame says of its own size, before anything is decoded."""

from __future__ import annotations

import struct

#: frames of JPEG, lossless JPEG and JPEG-LS
STARTS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
ALONE = {0x01, *range(0xD0, 0xD9)}


def frame_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and channels that a JPEG, JPEG-LS or JPEG 2000 codestream states; None for anything else."""
    try:
        if frame.startswith(b"\xff\x4f\xff\x51"):
            width, height, left, top = struct.unpack_from(">4I", frame, 8)
            (channels,) = struct.unpack_from(">H", frame, 40)
            return height - top, width - left, channels
        return _jpeg(frame) if frame.startswith(b"\xff\xd8") else None
    except struct.error:
        return None


def _jpeg(frame: bytes) -> tuple[int, int, int] | None:
    position = 2
    while position + 4 <= len(frame):
        if frame[position] != 0xFF:
            return None
        mark = frame[position + 1]
        if mark == 0xFF or mark in ALONE:  # a filler or a mark without a body
            position += 1 if mark == 0xFF else 2
            continue
        if mark in STARTS:
            height, width, channels = struct.unpack_from(">HHB", frame, position + 5)
            return height, width, channels
        (length,) = struct.unpack_from(">H", frame, position + 2)
        position += 2 + length
    return None
