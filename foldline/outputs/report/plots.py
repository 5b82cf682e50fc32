"""Pictures of a result as PNG files, for papers and slides: PAE of every sample, pLDDT and depth of the alignments.

Knows the record of a result. matplotlib is an optional library (extra `report`), used here alone.
"""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foldline.errors import InputError, WriteError
from foldline.outputs.layout import write_atomically
from foldline.outputs.report.confidences import PAE_STEPS, PAE_UNKNOWN, pooled
from foldline.outputs.report.record import Record, read_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_EDGE = 1200  # cells of a PAE picture along an edge
DPI = 180
PAE_FULL = 30.0  # Å, the end of the colour scale
_PAE_COLOURS = ("#0c5a3a", "#74bd90", "#f7fbf8")
_PLDDT_BANDS = ((90, 100, "#0053d6"), (70, 90, "#65cbf3"), (50, 70, "#ffdb13"), (0, 50, "#ff7d45"))


def write_plots(directory: Path) -> list[Path]:
    """Write `<job>_seed-S_sample-N_pae.png` of every sample, `<job>_plddt.png` and `<job>_msa.png` into the folder.

    Raises:
        InputError: matplotlib is not there, or the folder holds no whole result; nothing is written.
        WriteError: a file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as fault:
        raise InputError("the plots need matplotlib: pip install 'foldline[report]'", path="--plots") from fault
    record = read_record(directory, lambda pae: pooled(pae, math.ceil(len(pae) / MAX_EDGE)))
    stem = f"{record.directory / record.file_name}"
    drawn: dict[str, Figure] = {}
    for number, scores in enumerate(record.scores):
        drawn[f"{stem}_seed-{scores.seed}_sample-{scores.sample}_pae.png"] = _pae(Figure((5.4, 4.6)), record, number)
    drawn[f"{stem}_plddt.png"] = _plddt(Figure((8.4, 3.2)), record)
    if any(depth.rows > 1 for depth in record.depth.values()):
        drawn[f"{stem}_msa.png"] = _msa(Figure((8.4, 2.6)), record)
    pictures = {Path(name): _png(figure) for name, figure in drawn.items()}
    try:
        for path, data in pictures.items():
            write_atomically(path, [data])
    except OSError as fault:
        raise WriteError(
            f"the pictures cannot be written to {record.directory} ({fault.strerror or fault}): check its permissions"
            " and its free space, or make them of a copy"
        ) from fault
    return list(pictures)


def _png(figure: "Figure") -> bytes:
    """The picture without date and version, so that the same result gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _pae(figure: "Figure", record: Record, number: int) -> "Figure":
    from matplotlib.colors import LinearSegmentedColormap

    pae = record.arrays[number].pae
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    values = np.where(pae == PAE_UNKNOWN, np.nan, pae / PAE_STEPS)
    shades = LinearSegmentedColormap.from_list("pae", list(_PAE_COLOURS))
    edge = 0.5 + len(pae) * -(-record.n_token // len(pae))
    image = axes.imshow(values, cmap=shades, vmin=0, vmax=PAE_FULL, extent=(0.5, edge, edge, 0.5), interpolation="none")
    axes.set(xlim=(0.5, record.n_token + 0.5), ylim=(record.n_token + 0.5, 0.5))
    axes.set(xlabel="Scored token", ylabel="Token aligned on", title=_title(record, number))
    for start in _chain_starts(record)[1:]:
        axes.axhline(start + 0.5, color="#13212f", linewidth=0.6)
        axes.axvline(start + 0.5, color="#13212f", linewidth=0.6)
    figure.colorbar(image, ax=axes, label=f"Predicted aligned error (Å){_pooling(record, number)}")
    return figure


def _plddt(figure: "Figure", record: Record) -> "Figure":
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for low, high, colour in _PLDDT_BANDS:
        axes.axhspan(low, high, color=colour, alpha=0.16, linewidth=0)
    tokens = np.arange(1, record.n_token + 1)
    for number in reversed(range(len(record.arrays))):
        best = number == 0
        axes.plot(
            tokens,
            record.token_plddt(number),
            color="#13212f" if best else "#52657a",
            alpha=1.0 if best else 0.35,
            linewidth=1.2 if best else 0.7,
            label=f"seed {record.scores[0].seed}, sample {record.scores[0].sample} (best)" if best else None,
        )
    axes.set(ylim=(0, 100), ylabel="pLDDT", title=record.file_name)
    axes.legend(loc="lower right", fontsize="small", framealpha=0.8)
    _token_axis(axes, record)
    return figure


def _msa(figure: "Figure", record: Record) -> "Figure":
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    depth = record.token_depth()
    axes.fill_between(np.arange(1, record.n_token + 1), depth, step="mid", color="#94aabd", linewidth=0)
    axes.set(ylim=(0, None), ylabel="Alignment rows", title=record.file_name)
    _token_axis(axes, record)
    return figure


def _token_axis(axes: "Axes", record: Record) -> None:
    """Tokens along x, with chain borders and names."""
    axes.set(xlim=(0.5, record.n_token + 0.5), xlabel="Token")
    starts = [*_chain_starts(record), record.n_token]
    for chain, name in enumerate(record.structure.chain_id):
        if chain:
            axes.axvline(starts[chain] + 0.5, color="#13212f", linewidth=0.6)
        middle = (starts[chain] + starts[chain + 1] + 1) / 2
        if (starts[chain + 1] - starts[chain]) * 60 > record.n_token:
            axes.annotate(name, (middle, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    axes.set_title(axes.get_title(), pad=16)


def _chain_starts(record: Record) -> list[int]:
    """First token of every chain."""
    chain = record.structure.res_chain[record.token_residue]
    return np.flatnonzero(np.diff(chain, prepend=-1)).tolist()


def _title(record: Record, number: int) -> str:
    scores = record.scores[number]
    return f"{record.file_name}\nseed {scores.seed}, sample {scores.sample}, ranking score {scores.ranking_score:.2f}"


def _pooling(record: Record, number: int) -> str:
    factor = -(-record.n_token // len(record.arrays[number].pae))
    return f", means over {factor} × {factor} tokens" if factor > 1 else ""
