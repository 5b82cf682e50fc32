"""A small pdb_seqres with structures for some queries: of each, two entries that become templates and a late one."""

from collections.abc import Sequence
from pathlib import Path

from made_databases import sequence
from made_structures import entry, residues
from template_cases import homolog


def write_set(root: Path, queries: Sequence[str]) -> dict[str, object]:
    """Write it; gives the settings of searches in it."""
    (root / "mmcif").mkdir(parents=True)
    lines = [f">9zz{i}_A mol:protein length:80  Other\n{sequence('protein', 80, i)}" for i in range(8)]
    for number, query in enumerate(queries):
        for place, released in enumerate(("2000-01-01", "2010-01-01", "2025-01-01")):
            text, name = homolog(query, 5 + place, number), f"{number + 1}aa{place}"
            (root / "mmcif" / f"{name}.cif").write_text(entry(name, residues(text, number), released))
            lines.append(f">{name}_A mol:protein length:{len(text)}  Made\n{text}")
    (root / "seqres.fasta").write_text("\n".join(lines) + "\n")
    return {
        "relative_to": str(root),
        "databases": {"pdb_seqres": "seqres.fasta", "mmcif": "mmcif"},
        "template_rules": "alphafold3",
        "threads": 1,
    }
