"""What a new result keeps of the one that is there: whole seeds of the same job, options, checkpoint and version.

Such samples stay where they are: the new result, when it is put in its place, only adds to them. Knows the layout.
"""

import csv
from collections.abc import Collection
from pathlib import Path

from foldline.outputs.layout import damage, record_file
from foldline.outputs.records import WrittenSample, read_record


def kept_samples(directory: Path, name: str, seedless: str, seeds: Collection[int]) -> list[WrittenSample]:
    """The samples of those seeds in a whole result that differs from the one wanted in its seeds alone.

    Args:
        directory: the job's own folder.
        name: the job's file-safe name.
        seedless: hash of all that decides the result but the seeds.
        seeds: those that are wanted.
    """
    record = read_record(record_file(directory, name))
    if not seedless or record.get("seedless_fingerprint") != seedless or damage(directory, name):
        return []
    try:
        inverted = {(each["seed"], each["sample"]): each["atoms"] for each in record["stereocentres"]["inverted"]}
    except (KeyError, TypeError):
        return []
    with (Path(directory) / f"{name}_ranking_scores.csv").open(newline="", encoding="utf-8") as table:
        rows = [(int(row["seed"]), int(row["sample"]), float(row["ranking_score"])) for row in csv.DictReader(table)]
    return [WrittenSample(*row, inverted.get(row[:2], [])) for row in rows if row[0] in seeds]
