"""Random jobs, each written as AlphaFold 3 JSON and as Protenix JSON: every kind of entity, bond, change and alignment.

They leave out what Foldline does otherwise than Protenix on purpose (docs/numerics.md). Knows no features.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foldline.chem.components import Components

AMINO = "ACDEFGHIKLMNPQRSTVWY"
CHAIN_IDS = [first + second for first in ("", *AMINO) for second in AMINO]
TAXA = (("9606", "10090", "562", "3702"), ("HUMAN", "MOUSE", "YEAST", "ECOLI"), [str(i) for i in range(9000, 9040)])
SIDE_ATOMS = {"C": "SG", "K": "NZ", "S": "OG", "T": "OG1", "N": "ND2", "D": "OD1", "H": "NE2", "Y": "OH", "G": "CA"}
# fmt: off
SMILES = (
    "CC(=O)Oc1ccccc1C(=O)O", "C[N+](C)(C)CCOC(=O)C", "C[C@H](N)C(=O)O", "C[C@@H](O)[C@H](F)Cl", "F/C=C/Br",
    "F/C=C\\I", "O=N(=O)c1ccccc1", "[O-][N+](=O)c1ccc(Cl)cc1", "N#Cc1ccccc1", "C1CC2CCC1C2", "CP(=O)(O)O",
    "OB(O)c1ccccc1", "C[Si](C)(C)C", "[2H]C([2H])([2H])O", "O", "[NH4+]", "[H]C#C[H]", "C[Se]C", "[Na+]",
    "[O-]S(=O)(=O)[O-]", "c1cc[n+]([O-])cc1", "[O-]Cl(=O)(=O)=O", "C[N-]S(=O)(=O)C", "[CH2]C", "[C-]#[O+]",
    "CC[Te]CC", "C/C(=N/O)/C", "F[P-](F)(F)(F)(F)F", "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
    "NC(=[NH2+])NCCC[C@H](N)C(=O)O",
)
# fmt: on
LIGAND = ("ligand", "ligand")  # its key in both dialects
End = tuple[int, int, int, str]  # entity, copy, residue (all from 1), atom


@dataclass
class Entity:
    """One entity in both dialects; `residues` are letters, or component codes where there is one."""

    kind: str
    ids: list[str]
    residues: list[str]
    af3: dict
    protenix: dict


@dataclass
class JobMaker:
    """A job from a seed, one entity after another."""

    rng: random.Random
    components: Components
    pool: dict[str, list[str]]
    deep: bool = False
    entities: list[Entity] = field(default_factory=list)
    bonds: list[tuple[End, End]] = field(default_factory=list)

    def make(self) -> None:
        """Add one to eleven entities and some bonds."""
        makers = (self._protein, self._nucleic, self._ligand, self._glycan, self._smiles)
        self.taxa = self.rng.choice(TAXA)
        for _ in range(self.rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 11))):
            self.rng.choices(makers, (40, 22, 20, 8, 10))[0]()
        for _ in range(self.rng.choice((0, 0, 0, 1, 2, 3))):
            ends = [self._any_end(), self._any_end()]
            if None not in ends and ends[0] != ends[1]:
                self.bonds.append((ends[0], ends[1]))  # type: ignore[arg-type]
        self.bonds = list({frozenset(pair): pair for pair in self.bonds}.values())

    def dialects(self, name: str) -> tuple[dict, list[dict]]:
        """The job as AlphaFold 3 JSON and as Protenix JSON."""
        af3 = {"name": name, "dialect": "alphafold3", "version": 4, "modelSeeds": [1]}
        af3["sequences"] = [one.af3 for one in self.entities]
        theirs = {"name": name, "modelSeeds": [1], "sequences": [one.protenix for one in self.entities]}
        pairs = [[[self.entities[e - 1].ids[k - 1], i, a] for e, k, i, a in pair] for pair in self.bonds]
        keys = ("entity", "copy", "position", "atom")
        both = [
            {f"{key}{side}": value for side, end in ((1, one), (2, two)) for key, value in zip(keys, end, strict=True)}
            for one, two in self.bonds
        ]
        return af3 | ({"bondedAtomPairs": pairs} if pairs else {}), [
            theirs | ({"covalent_bonds": both} if both else {})
        ]

    def _add(
        self, kind: str, residues: list[str], names: tuple[str, str], ours: dict, theirs: dict, count: int
    ) -> None:
        used = {chain for one in self.entities for chain in one.ids}
        free = [chain for chain in map("".join, zip(AMINO * 20, sorted(AMINO * 20), strict=True)) if chain not in used]
        ids = self.rng.sample(sorted(set(free)), count)
        shared = {"id": ids, "count": count}
        entity = {names[0]: ours | {"id": ids}}, {names[1]: theirs | shared}
        self.entities.append(Entity(kind, ids, residues, *entity))

    def _copies(self) -> int:
        return self.rng.choice((1, 1, 1, 1, 2, 2, 3))

    def _modified(self, sequence: str, kinds: Sequence[str]) -> dict[int, str]:
        """Component code by position: none, at the ends, in a run, anywhere, or everywhere."""
        rng, n = self.rng, len(sequence)
        start = rng.randint(1, n)
        run = range(start, min(n, start + 3) + 1)
        choices = ([], [], [], [1], [n], [1, n], run, {rng.randint(1, n), rng.randint(1, n)}, range(1, min(n, 5) + 1))
        changes = {position: rng.choice(self.pool[rng.choice(kinds)]) for position in rng.choice(choices)}
        middle = rng.randint(1, n)
        if "protein" in kinds and 1 < middle < n and rng.random() < 0.05:  # breaks the chain
            changes[middle] = rng.choice(self.pool["ligand"])
        return changes

    def _protein(self) -> None:
        rng = self.rng
        letters = AMINO + rng.choice(("", "", "XX", "MMMM"))
        sequence = "".join(rng.choices(letters, k=rng.choice((1, 2, 3, 4, 5, 6, 8, 12, 15, 25, 40, 60))))
        known = ["".join(one.residues) for one in self.entities if one.kind == "protein" and len(one.residues) > 3]
        if known and rng.random() < 0.1:
            sequence = "".join(letter for letter in rng.choice(known) if letter in AMINO) or sequence
        changes = self._modified(sequence, ("protein",))
        odd = rng.choice(("", "BZUXJO"))
        texts = {
            name: self._alignment(sequence, AMINO + odd, name == "pairedMsa") if rng.random() < 0.7 else ""
            for name in ("unpairedMsa", "pairedMsa")
        }
        self._polymer("protein", ("protein", "proteinChain"), sequence, changes, texts, ("ptmType", "ptmPosition"))

    def _nucleic(self) -> None:
        kind = self.rng.choice(("dna", "rna"))
        letters = {"dna": "ACGT", "rna": "ACGU"}[kind] + self.rng.choice(("", "", "NX"))
        sequence = "".join(self.rng.choices(letters, k=self.rng.choice((1, 2, 4, 5, 6, 9, 14, 25))))
        texts = {}
        if kind == "rna":
            texts["unpairedMsa"] = self._alignment(sequence, "ACGUNTR", False) if self.rng.random() < 0.6 else ""
        changes = self._modified(sequence, ("dna", "rna", kind))
        self._polymer(kind, (kind, f"{kind}Sequence"), sequence, changes, texts, ("modificationType", "basePosition"))

    def _polymer(
        self,
        kind: str,
        names: tuple[str, str],
        sequence: str,
        changes: dict[int, str],
        texts: dict[str, str],
        keys: tuple[str, str],
    ) -> None:
        residues = [changes.get(place, letter) for place, letter in enumerate(sequence, 1)]
        shared = {"sequence": sequence} | texts
        ours, theirs = (
            shared | {"modifications": [{keys[0]: prefix + code, keys[1]: place} for place, code in changes.items()]}
            for prefix in ("", "CCD_")
        )
        more = {"templates": []} if kind == "protein" else {}
        self._add(kind, residues, names, ours | more, theirs, self._copies())

    def _alignment(self, query: str, letters: str, paired: bool) -> str:
        """An a3m with repeats, rows of gaps, insertions of up to 200, wrapped lines, comments and odd headers."""
        rng, rows, records = self.rng, [query], [f">query\n{query}"]
        deep = (9000, 17000, 34000) if len(query) < 16 else (3000, 9000)
        for number in range(rng.choice(deep if self.deep else (0, 1, 3, 20, 20, 60, 150))):
            gaps = rng.choice((0.05, 0.1, 0.5, 0.9))
            fresh = "".join("-" if rng.random() < gaps else rng.choice(letters + 20 * c) for c in query)
            rows.append(rng.choices((fresh, rng.choice(rows), "-" * len(query)), (84, 12, 4))[0])
            text = "".join(self._insertion() + letter for letter in rows[-1]) + self._insertion()
            cut = rng.randint(1, len(text)) if rng.random() < 0.03 else len(text)
            wrapped = text[:cut] + "\n" * (cut < len(text)) + text[cut:] + rng.choice([""] * 40 + ["\n", "\n# more"])
            records.append(f">{self._header(number, paired != (rng.random() < 0.1))}\n{wrapped}")
        text = rng.choice(("", "", "", "#A3M#\n")) + "\n".join(records) + rng.choice(("", "\n"))
        return text.replace("\n", "\r\n") if rng.random() < 0.1 else text

    def _insertion(self) -> str:
        if self.rng.random() >= (0.001 if self.deep else 0.05):
            return ""
        return "".join(self.rng.choices(AMINO.lower(), k=self.rng.choice((1, 2, 3, 7, 40, 126, 127, 128, 200))))

    def _header(self, number: int, species: bool) -> str:
        taxon = self.rng.choice(self.taxa)
        if not species:
            return f"hit{number} n=1"
        if taxon[0].isdigit():
            return f"UniRef100_U{number:04d}_{taxon}/1-20 extra"
        return f"{self.rng.choice(('tr', 'sp'))}|A0A{number % 1000:03d}|A0A{number % 1000:03d}_{taxon}/1-20"

    def _ligand(self, codes: Sequence[str] = (), count: int = 0) -> None:
        chosen = list(codes) or self.rng.choices(self.pool["ligand"], k=self.rng.choice((1, 1, 1, 2, 3)))
        text = "CCD_" + "_".join(chosen)
        self._add("ligand", chosen, LIGAND, {"ccdCodes": chosen}, {"ligand": text}, count or self._copies())

    def _smiles(self) -> None:
        text = self.rng.choice(SMILES)
        self._add("smiles", [], LIGAND, {"smiles": text}, {"ligand": text}, self._copies())

    def _glycan(self) -> None:
        """Sugars bonded in a tree, and to one asparagine, serine or threonine of the proteins before them."""
        rng = self.rng
        codes = rng.choices(self.pool["sugar"], k=rng.randint(1, 5))
        self._ligand(codes, rng.choice((1, 1, 2)))
        names = [self.components.require(code).atom_name.tolist() for code in codes]
        number = len(self.entities)
        for i in range(1, len(codes)):
            before = rng.randrange(i)
            oxygens = [name for name in ("O2", "O3", "O4", "O6") if name in names[before]]
            if oxygens and "C1" in names[i]:
                chosen = rng.choice(oxygens)
                for copy in range(1, len(self.entities[-1].ids) + 1):
                    self.bonds.append(((number, copy, before + 1, chosen), (number, copy, i + 1, "C1")))
        hosts = [end for end in self._side_atoms() if end[3] in ("ND2", "OG", "OG1")]
        if hosts and "C1" in names[0]:
            self.bonds.append((rng.choice(hosts), (number, 1, 1, "C1")))

    def _side_atoms(self) -> list[End]:
        """The atom of every unmodified residue of a protein that may be bonded."""
        return [
            (number, copy, place, SIDE_ATOMS[letter])
            for number, one in enumerate(self.entities, 1)
            if one.kind == "protein"
            for copy in range(1, len(one.ids) + 1)
            for place, letter in enumerate(one.residues, 1)
            if letter in SIDE_ATOMS
        ]

    def _any_end(self) -> End | None:
        """A side chain's atom, or an atom of a component: one with leaving groups, or any that stays."""
        number = self.rng.randint(1, len(self.entities))
        one = self.entities[number - 1]
        if one.kind == "protein":
            mine = [end for end in self._side_atoms() if end[0] == number]
            return self.rng.choice(mine) if mine else None
        if one.kind != "ligand":
            return None
        place = self.rng.randint(1, len(one.residues))
        component = self.components.require(one.residues[place - 1])
        staying = component.atom_name[component.heavy & ~component.leaving].tolist()
        atoms = self.rng.choice([names for names in (staying, sorted(component.leaving_groups)) if names] or [[]])
        return (number, self.rng.randint(1, len(one.ids)), place, self.rng.choice(atoms)) if atoms else None


def component_pool(file: Path, components: Components) -> dict[str, list[str]]:
    """Codes of the file by kind, sugars apart; only those that both dictionaries know and that are no chain's cap."""
    lines = file.read_text().splitlines()
    pool: dict[str, list[str]] = {kind: [] for kind in ("protein", "dna", "rna", "ligand", "sugar")}
    for code in sorted(line.removeprefix("data_").strip() for line in lines if line.startswith("data_")):
        component = components.get(code)
        if component is not None and 1 <= component.heavy.sum() <= 80:
            pool["sugar" if "SACCHARIDE" in component.type.upper() else component.kind].append(code)
    return pool
