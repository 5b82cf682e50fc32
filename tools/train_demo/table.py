"""The table that scripts/demo ends with: every sample of a result, best first, beside the experiment where given."""

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from foldline.errors import ExitCode, InputError
from tools.train_demo.compare import Deviation, deviation

TARGETS = Path(__file__).with_name("targets.json")


@dataclass(frozen=True)
class Row:
    """One sample of a result."""

    name: str
    ranking_score: float
    plddt: float
    ptm: float
    deviation: Deviation | None


def rows_of(result: Path, experiment: Path | None) -> list[Row]:
    """The samples of a result's folder, best ranked first.

    Raises:
        InputError: no result, or an experiment that cannot be compared with it.
    """
    name = result.name
    rows = []
    try:
        with (result / f"{name}_ranking_scores.csv").open(newline="") as file:
            scores = {f"seed-{x['seed']}_sample-{x['sample']}": float(x["ranking_score"]) for x in csv.DictReader(file)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"not a finished result ({error})", path="result", source=str(result)) from error
    for folder_name, score in scores.items():
        stem = result / folder_name / f"{name}_{folder_name}"
        try:
            summary = json.loads(Path(f"{stem}_summary_confidences.json").read_text())
            full = json.loads(Path(f"{stem}_confidences.json").read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"not a finished result ({error})", path="result", source=str(result)) from error
        compared = None
        if experiment is not None:
            target = target_of(name)
            compared = deviation(Path(f"{stem}_model.cif"), experiment, target["chains"], set(target["ligands"]))
        plddt = float(np.mean(full["atom_plddts"]))
        rows.append(Row(folder_name, score, plddt, summary["ptm"], compared))
    if not rows:
        raise InputError("holds no samples", path="result", source=str(result))
    return sorted(rows, key=lambda row: -row.ranking_score)


def warnings_of(result: Path) -> list[str]:
    """What the run warned of.

    Raises:
        InputError: the result is not finished.
    """
    try:
        return json.loads((result / f"{result.name}_run.json").read_text())["warnings"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"not a finished result ({error})", path="result", source=str(result)) from error


def target_of(name: str) -> dict:
    """What is known of a memorised structure."""
    known = {target["name"]: target for target in json.loads(TARGETS.read_text())}
    if name not in known:
        raise InputError(f"{name} is none of {', '.join(known)}", path="result", source=str(TARGETS))
    return known[name]


def table_of(rows: list[Row]) -> Table:
    """The rows as a table."""
    note = "RMSD to the experiment of CA and C1', and of the ligand in that superposition"
    table = Table(title="samples, best ranked first", caption=note if rows[0].deviation is not None else None)
    columns = ["sample", "ranking score", "mean pLDDT", "pTM"]
    columns += ["polymer Å", "ligand Å"] if rows[0].deviation is not None else []
    for column in columns:
        table.add_column(column, justify="left" if column == "sample" else "right", no_wrap=True)
    for row in rows:
        cells = [row.name, f"{row.ranking_score:.3f}", f"{row.plddt:.1f}", f"{row.ptm:.3f}"]
        if row.deviation is not None:
            cells.append(f"{row.deviation.polymer:.2f}")
            cells.append("-" if np.isnan(row.deviation.ligand) else f"{row.deviation.ligand:.2f}")
        table.add_row(*cells)
    return table


def main() -> None:
    """Print the table of a result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="folder of one job's result")
    parser.add_argument("--structure", type=Path, help="mmCIF of the experiment")
    options = parser.parse_args()
    try:
        rows = rows_of(options.result, options.structure)
        warnings = warnings_of(options.result)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.BAD_INPUT) from error
    Console().print(table_of(rows))
    for warning in warnings:
        print(f"note: {warning}")


if __name__ == "__main__":
    main()
