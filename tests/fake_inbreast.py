"""INbreast: INbreast.csv, AllDICOMs and AllXML, as distributed."""

import plistlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
from dicoms import breast, write_dicom

HEAD = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
BIRADS = ("1", "4a", "2", "5", "3", "6")


def outlines(*named: tuple[str, list[tuple[float, float]]]) -> bytes:
    """A property list of outlines, as OsiriX writes them."""
    rois = [
        {"Area": 1.5, "Name": name, "NumberOfPoints": len(points), "Point_px": [f"({x:f}, {y:f})" for x, y in points]}
        for name, points in named
    ]
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]})


def disc(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Points of a circle."""
    return [(x + radius * float(np.cos(turn)), y + radius * float(np.sin(turn))) for turn in np.linspace(0, 6, 12)]


def workbook(table: str) -> bytes:
    """An `.xls` (BIFF 5 in an OLE2 container) of a table whose cells `;` separates; numbers are numbers in it."""

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("<HH", kind, len(content)) + content

    def cell(row: int, column: int, word: str) -> bytes:
        if word.isdigit():
            return record(0x203, struct.pack("<HHHd", row, column, 0, float(word)))
        return record(0x204, struct.pack("<HHHH", row, column, 0, len(word)) + word.encode("latin-1"))

    lines = [line.split(";") for line in table.splitlines()]
    cells = [cell(row, column, word) for row, line in enumerate(lines) for column, word in enumerate(line) if word]
    begins = [record(0x809, struct.pack("<HHHH", 0x500, what, 0, 0)) for what in (0x05, 0x10)]
    end, name = record(0x0A, b""), b"Sheet1"
    start = len(begins[0]) + 4 + 7 + len(name) + len(end)
    stream = begins[0] + record(0x85, struct.pack("<IHB", start, 0, len(name)) + name) + end
    stream += begins[1] + b"".join(cells) + end
    stream += bytes(max(4096, -(-len(stream) // 512) * 512) - len(stream))
    chain = [-3, -2, *range(3, 2 + len(stream) // 512), -2]  # of sectors: this table, the directory, the stream
    assert len(chain) <= 128
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(10)
    head += struct.pack("<iiiiiiiii", 1, 1, 0, 4096, -2, 0, -2, 0, 0) + struct.pack("<i", -1) * 108
    entries = b""
    for title, kind, child, first, size in (("Root Entry", 5, 1, -2, 0), ("Book", 2, -1, 2, len(stream))):
        word = title.encode("utf-16-le")
        entries += word.ljust(64, b"\0") + struct.pack("<HBBiii", len(word) + 2, kind, 1, -1, -1, child)
        entries += bytes(36) + struct.pack("<iii", first, size, 0)
    sectors = struct.pack(f"<{len(chain)}i", *chain) + struct.pack("<i", -1) * (128 - len(chain))
    return head + sectors + entries.ljust(512, b"\0") + stream


def write_inbreast(root: Path, *, patients: int = 12, seed: int = 0) -> dict[str, Any]:
    """Four views a patient, of both breasts; every third left breast has BI-RADS 3, those of 4 or more have a mass."""
    rng = np.random.default_rng(seed)
    (root / "AllXML").mkdir(parents=True, exist_ok=True)
    rows = [HEAD]
    for patient in range(patients):
        for index, (side, view) in enumerate((side, view) for side in "RL" for view in ("CC", "MLO")):
            number = 20586908 + 100 * patient + 13 * index
            birads = BIRADS[patient % len(BIRADS) if side == "L" else patient % 2]
            name = f"{number}_{patient:04x}c0ffee{patient:02d}_MG_{side}_{view.replace('MLO', 'ML')}_ANON.dcm"
            pixels = breast(rng, side=side, lesion=birads[0] in "456")
            uid = f"1.2.3.{seed}.{number}"
            write_dicom(root / "AllDICOMs" / name, pixels, PatientID="removed", SOPInstanceUID=uid)
            date = "200901" if patient % 2 else "201001"
            rows.append(f"removed;removed;{side};{view};{date};{number};{1 + patient // 2 % 4};{birads}")
            if birads != "1":
                found = ("Mass" if birads[0] in "456" else "Calcification", disc(60, 80, 12))
                (root / "AllXML" / f"{number}.xml").write_bytes(outlines(found))
    (root / "INbreast.csv").write_bytes("\r\n".join([*rows, ""]).encode())
    return {"root": root}
