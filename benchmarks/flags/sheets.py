"""Contact sheets of cases, to see whether they are what their truth says."""

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from flags.compose import Case

COLUMNS, WIDTH, HEIGHT = 6, 190, 120


def drawn(folder: Path, cases: Sequence[Case], out: Path, count: int = 24) -> None:
    """One row a case, evenly chosen; six frames each."""
    chosen = [cases[k] for k in np.unique(np.linspace(0, len(cases) - 1, count).astype(int))]
    rows = [_row(folder, case) for case in chosen]
    half = (len(rows) + 1) // 2
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    cv2.imwrite(str(out), np.hstack([np.vstack(rows[:half]), np.vstack(rows[half:])]))


def _row(folder: Path, case: Case) -> np.ndarray:
    with av.open(str(folder / case.file)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    cells = []
    for k in np.linspace(0, len(frames) - 1, COLUMNS).astype(int):
        image = frames[k].copy()
        for box in case.boxes.values():
            x, y, width, height = box
            cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), (0, 255, 0), 1)
        scale = min(WIDTH / image.shape[1], (HEIGHT - 14) / image.shape[0])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cell = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        cell[14 : 14 + image.shape[0], : image.shape[1]] = image
        cells.append(cell)
    row = np.hstack(cells)
    text = (
        f"{case.name} {case.level:g} {case.unit} {case.encoding} {case.size[0]}x{case.size[1]} {case.fps:.4g}/s {len(frames)} {case.note}"
    )
    cv2.putText(row, text[:175], (2, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 255, 255), 1, cv2.LINE_AA)
    return row
