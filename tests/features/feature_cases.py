"""Small alignments made from a seed, the same for both sides of a comparison; upstream imports this too."""

import random

PROTEIN, RNA = "ACDEFGHIKLMNPQRSTVWY", "ACGU"


def alignment(seed: int, query: str, letters: str, depth: int, species: list[str], headers: str) -> str:
    """An a3m text: the query, then mutated rows with gaps, insertions and some repeats."""
    rng = random.Random(seed)
    records, rows = [f">query\n{query}"], [query]
    for number in range(depth):
        if rng.random() < 0.15:
            row = rng.choice(rows).replace("-", "-").upper()
        else:
            row = "".join(
                "-" if rng.random() < 0.12 else rng.choice(letters) if rng.random() < 0.3 else c for c in query
            )
        rows.append(row)
        shown = "".join(_insertion(rng, letters) + c for c in row) + _insertion(rng, letters)
        taxon = rng.choice(species)
        name = {
            "uniref": f"UniRef100_U{number:04d}_{taxon}/1-20 extra",
            "uniprot": f"tr|A0A{number:03d}|A0A{number:03d}_{taxon}/1-20",
            "none": f"hit{number} n=1",
        }[headers]
        records.append(f">{name}\n{shown}")
    return "\n".join(records) + "\n"


def _insertion(rng: random.Random, letters: str) -> str:
    return "".join(rng.choice(letters).lower() for _ in range(rng.randrange(1, 5))) if rng.random() < 0.06 else ""


def sequence(seed: int, length: int, letters: str = PROTEIN) -> str:
    """A random sequence."""
    rng = random.Random(seed)
    return "".join(rng.choice(letters) for _ in range(length))


def protein(seed: int, length: int, depth: int, species: list[str], headers: str, count: int = 1) -> dict:
    """A protein with both of its alignments."""
    query = sequence(seed, length)
    return {
        "kind": "protein",
        "sequence": query,
        "count": count,
        "paired": alignment(seed + 1, query, PROTEIN + "BZUX", depth, species, headers),
        "unpaired": alignment(seed + 2, query, PROTEIN, depth // 2, [""], "none"),
    }


def cases() -> dict[str, list[dict]]:
    """Chains of every case: kind, sequence (of a ligand: as many X as atoms), count, unpaired and paired a3m."""
    taxa = [str(9600 + i) for i in range(9)]
    codes = ["HUMAN", "MOUSE", "YEAST", "ECOLI", "ARATH"]
    rna = sequence(5, 11, RNA)
    rna_msa = alignment(6, rna, RNA + "N", 12, [""], "none")
    dna = {"kind": "dna", "sequence": "CTAGGTA", "count": 1, "paired": "", "unpaired": ""}
    ligand = {"kind": "ligand", "sequence": "XXXXX", "count": 1, "paired": "", "unpaired": ""}
    with_rna = {"kind": "rna", "sequence": rna, "count": 1, "paired": "", "unpaired": rna_msa}
    short = {"kind": "protein", "sequence": "MKVL", "count": 1, "paired": "", "unpaired": ">q\nMKVL\n>h\nMRVL\n"}
    a, b = protein(10, 23, 60, taxa, "uniref", 2), protein(20, 31, 50, taxa[3:], "uniref")
    c, d = protein(30, 19, 40, codes, "uniprot"), protein(40, 27, 45, codes[:3], "uniprot", 2)
    return {
        "two_proteins": [a, dna, ligand, b, with_rna],
        "three_proteins": [c, d, protein(50, 17, 35, codes, "uniprot")],
        "one_protein": [dict(a, count=2), with_rna],
        "short_protein": [short, dna, b],
        "rna_alone": [with_rna],
        "no_alignment": [dict(c, paired="", unpaired=""), dict(d, paired="", unpaired="")],
    }
