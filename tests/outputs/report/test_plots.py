"""The PNG files: their names, that they show what they should, and that they are the same each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldline.outputs.report.plots import write_plots

pytest.importorskip("matplotlib")


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)[..., :3]


def test_names_and_contents(result: Any) -> None:
    written = write_plots(result.folder)
    samples = [f"seed-{seed}_sample-{number}_pae" for seed in (1, 7) for number in (0, 1)]
    names = {f"{result.job.name}_{what}.png" for what in (*samples, "plddt", "msa")}
    assert {path.name for path in written} == names == {path.name for path in result.folder.glob("*.png")}
    pictures = {path.name: pixels(path) for path in written}
    assert all(picture.std() > 0.03 for picture in pictures.values())
    maps = [picture for name, picture in pictures.items() if name.endswith("_pae.png")]
    assert all(np.abs(a - b).max() > 0.2 for i, a in enumerate(maps) for b in maps[:i])
    green = maps[0][..., 1] - maps[0][..., 0]
    assert (green > 0.1).mean() > 0.3
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_plots(result.folder)] == before
