"""The kalign program on the PATH: two protein sequences aligned as Protenix aligns a query to a template's chain.

Knows letters alone, no hits and no structures.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from foldline.errors import SearchError

SHORTEST = 6  # residues; kalign aligns nothing shorter
REMEDY = 'install it (apt-get install kalign), or set template_rules = "alphafold3" in [search]'
_UNREADABLE = str.maketrans("JO", "XX")  # not in the table of kalign 3.3.5, which reads past its end


class Kalign:
    """Kalign with its own parameters, as Protenix runs it (data/tools/kalign.py:109-117)."""

    def __init__(self, program: str) -> None:
        """`program` is the path.

        Raises:
            SearchError: it does not run.
        """
        self.program = program
        said = self._run(["--version"])
        self.version = said.stdout.strip().removeprefix("kalign ") or said.stderr.strip().removeprefix("kalign ")

    @classmethod
    def find(cls) -> Self | None:
        """The program on the PATH; None where there is none."""
        program = shutil.which("kalign")
        return None if program is None else cls(program)

    def __call__(self, first: str, second: str) -> tuple[str, str] | None:
        """Both sequences with gaps, or None where kalign has no answer: under six residues, or letters it fails on."""
        if min(len(first), len(second)) < SHORTEST:
            return None
        with tempfile.TemporaryDirectory(prefix="foldline-") as name:
            pair, aligned = Path(name) / "pair.fasta", Path(name) / "aligned.fasta"
            pair.write_text("".join(f">{i}\n{text.translate(_UNREADABLE)}\n" for i, text in enumerate((first, second))))
            # no "-n 1": with one thread kalign 3.3.5 takes another way and gives other rows for a third of all pairs
            done = self._run(["-i", str(pair), "-o", str(aligned), "--format", "fasta"])
            if done.returncode or not aligned.is_file():
                return None
            records = aligned.read_text().split(">")[1:]
        rows = [record.partition("\n")[2].replace("\n", "") for record in records]
        if [len(row) - row.count("-") for row in rows] != [len(first), len(second)]:
            return None
        return rows[0], rows[1]

    def _run(self, options: list[str]) -> subprocess.CompletedProcess[str]:
        command = [self.program, *options]
        try:  # no input: kalign waits for a pipe on its standard input, and aligns what comes as well
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SearchError(f"{self.program} cannot be run ({error.strerror or error}): {REMEDY}") from error


def mapping_of(query: str, template: str) -> dict[int, int]:
    """Query index to template index of the columns where both rows of an alignment have a residue."""
    pairs: dict[int, int] = {}
    i = j = 0
    for one, other in zip(query, template, strict=True):
        if one != "-" and other != "-":
            pairs[i] = j
        i += one != "-"
        j += other != "-"
    return pairs
