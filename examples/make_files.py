"""Makes what the examples name: alignments and a database of made-up homologs, a helical hairpin from ideal angles.

usage: python examples/make_files.py [FOLDER]     (default: the folder of this file)
"""

import gzip
import math
import random
import sys
from pathlib import Path

import gemmi

CHAINS = {"a": "GIVEQCCTSICSLYQLENYCN", "b": "FVNQHLCGSHLVEALYLVCGERGFFYTPKT"}
RNA = "GGCACUUCGGUGCC"
SEARCHED = "MERPYACPVESCDRRFSRSDELTRHIRIHTGQKPFQCRICMRNFSRSDHLTTHIRTHTGE"
HAIRPIN = "SKEEALKKLEELLKKAEGDPELVKRALELAAELLRRA"
N_HOMOLOG, N_PAIRED = 12, 6
HELIX = (-57.0, -47.0)  # phi, psi in degrees
TURN = ((90.0, 0.0), (-90.0, 0.0), (-120.0, 130.0), (-60.0, 130.0))
Point = tuple[float, float, float]


def main(folder: Path) -> None:
    """Write every file below `folder`; the same bytes each time."""
    (folder / "msa").mkdir(parents=True, exist_ok=True)
    (folder / "templates").mkdir(exist_ok=True)
    (folder / "database").mkdir(exist_ok=True)
    for number, (chain, sequence) in enumerate(CHAINS.items()):
        dice = random.Random(number)
        rows = [changed(sequence, "ACDEFGHIKLMNPQRSTVWY", dice) for _ in range(N_HOMOLOG)]
        # the same species in both chains: these rows are paired
        paired = [(f"UniRef100_{chain.upper()}{i:03d}_{9000 + i}", row) for i, row in enumerate(rows[:N_PAIRED])]
        unpaired = [(f"homolog_{i}", row) for i, row in enumerate(rows)]
        write(folder / "msa" / f"chain_{chain}_paired.a3m", sequence, paired)
        write(folder / "msa" / f"chain_{chain}_unpaired.a3m", sequence, unpaired)
    dice = random.Random(7)
    rows = [(f"homolog_{i}", changed(RNA, "ACGU", dice)) for i in range(N_HOMOLOG)]
    write(folder / "msa" / "rna.a3m.gz", RNA, rows)
    dice = random.Random(8)
    entries = [changed(SEARCHED, "ACDEFGHIKLMNPQRSTVWY", dice).replace("-", "").upper() for _ in range(N_HOMOLOG)]
    text = "".join(f">made_up_{i}\n{entry}\n" for i, entry in enumerate(entries))
    (folder / "database" / "small.fasta").write_text(text)
    structure = hairpin(HAIRPIN)
    options = gemmi.PdbWriteOptions(ter_records=True, end_record=True)
    (folder / "templates" / "hairpin.pdb").write_text(structure.make_pdb_string(options))
    (folder / "templates" / "hairpin.cif").write_text(structure.make_mmcif_document().as_string())


def changed(sequence: str, letters: str, dice: random.Random) -> str:
    """A row of A3M: substitutions, gaps as `-` and, between columns, insertions in lower case."""
    row = []
    for letter in sequence:
        x = dice.random()
        row.append("-" if x < 0.05 else letters[int(dice.random() * len(letters))] if x < 0.35 else letter)
        if x > 0.97:
            row.append(letters[int(dice.random() * len(letters))].lower())
    return "".join(row)


def write(path: Path, query: str, rows: list[tuple[str, str]]) -> None:
    """An alignment in A3M, the query first."""
    text = f">query\n{query}\n" + "".join(f">{name}\n{row}\n" for name, row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())


def hairpin(sequence: str) -> gemmi.Structure:
    """Two helices and a turn: backbone and CB of every residue, from ideal bond lengths and angles."""
    half = len(sequence) // 2
    torsions = [HELIX] * len(sequence)
    torsions[half - 1 : half - 1 + len(TURN)] = TURN
    structure = gemmi.Structure()
    structure.name = "hairpin"
    chain = gemmi.Chain("A")
    n, ca, c = (0.0, 0.0, 0.0), (1.458, 0.0, 0.0), (2.009, 1.421, 0.0)
    for i, letter in enumerate(sequence):
        phi, psi = torsions[i]
        if i:
            before = torsions[i - 1][1]
            n, ca, c = (
                first := placed(n, ca, c, 1.329, 116.2, before),
                second := placed(ca, c, first, 1.458, 121.7, 180.0),
                placed(c, first, second, 1.525, 111.2, phi),
            )
        atoms = {"N": n, "CA": ca, "C": c, "O": placed(n, ca, c, 1.231, 120.5, psi + 180.0)}
        if letter != "G":
            atoms["CB"] = placed(c, n, ca, 1.53, 110.1, -122.6)
        chain.add_residue(residue(letter, i + 1, atoms))
    model = gemmi.Model(1)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    structure.assign_label_seq_id()
    for entity in structure.entities:
        entity.full_sequence = [item.name for item in structure[0]["A"]]
    return structure


def placed(a: Point, b: Point, c: Point, length: float, angle: float, torsion: float) -> Point:
    """The point at `length` (Å) from c with the angle b-c-x and the torsion a-b-c-x, in degrees."""
    theta, chi = math.radians(angle), math.radians(torsion)
    va, vb, vc = (gemmi.Vec3(*p) for p in (a, b, c))
    axis = (vc - vb).normalized()
    normal = (vb - va).cross(axis).normalized()
    side = normal.cross(axis)
    x = vc + (
        axis * (-length * math.cos(theta))
        + side * (length * math.sin(theta) * math.cos(chi))
        + normal * (length * math.sin(theta) * math.sin(chi))
    )
    return (x.x, x.y, x.z)


def residue(letter: str, number: int, atoms: dict[str, Point]) -> gemmi.Residue:
    """A residue of a protein with these atoms."""
    made = gemmi.Residue()
    made.name = gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA)
    made.seqid = gemmi.SeqId(str(number))
    for name, position in atoms.items():
        atom = gemmi.Atom()
        atom.name, atom.element = name, gemmi.Element(name[0])
        atom.pos, atom.b_iso = gemmi.Position(*position), 20.0
        made.add_atom(atom)
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
