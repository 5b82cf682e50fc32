"""Queries with rows of hmmsearch and made-up entries, on which Protenix and we must agree; its choice is recorded.

template_cases.py --upstream-python PY        runs Protenix on them and writes data/upstream_templates.npz
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from made_databases import sequence
from made_structures import Residue, entry, residues

RECORDED = Path(__file__).parent / "data" / "upstream_templates.npz"
UPSTREAM = Path(__file__).with_name("upstream_templates.py")
QUERY = sequence("protein", 70, 21)
Case = dict[str, object]


def homolog(query: str, every: int, shift: int = 0) -> str:
    """The query with every so many residues replaced."""
    return "".join("W" if i % every == shift else letter for i, letter in enumerate(query))


def row(name: str, text: str) -> str:
    """A row of hmmsearch: upper case and "-" in the query's columns."""
    length = len(text.replace("-", ""))
    return f">{name}/1-{length} [subseq from] mol:protein length:{length}  MADE UP\n{text}\n"


def odd_chain() -> list[Residue]:
    """Unresolved residues, selenomethionine, alternative places and residues, an insertion, a swapped arginine."""
    text = homolog(QUERY, 6)
    text = text[:8] + "m" + text[9:20] + "s" + text[21:30] + "R" + text[31:]
    chain = residues(text, 2, first=101)
    for at in (0, 1, 2, 40, 41):
        chain[at].atoms = []
    chain[12].atoms = [atom for atom in chain[12].atoms if atom[0] != "CB"]
    chain[13].atoms = [atom for atom in chain[13].atoms if atom[0] != "C"]
    name, _, _, _, (x, y, z) = chain[15].atoms[1]
    for altloc, occupancy, dx in (("A", 0.3, 0.0), ("B", 0.5, 1.0), ("C", 0.5, 2.0)):
        chain[15].atoms.append((name, altloc, occupancy, "", (x + dx, y, z)))
    del chain[15].atoms[1]
    name, _, _, _, (x, y, z) = chain[16].atoms[1]
    chain[16].atoms[1] = (name, "A", 0.5, "", (x, y, z))
    chain[16].atoms.insert(2, (name, "B", 0.5, "", (x, y + 1, z)))
    both = [(name, "A", 0.7, "", place) for name, _, _, _, place in chain[25].atoms[:4]]
    other = "SER" if chain[25].code != "SER" else "THR"
    both += [(name, "B", 0.3, other, (x, y, z + 1)) for name, _, _, _, (x, y, z) in both]
    chain[25].atoms = both
    chain[51].number, chain[51].insertion = chain[50].number, "A"
    places = {atom[0]: at for at, atom in enumerate(chain[30].atoms)}
    cd = chain[30].atoms[places["CD"]][4]
    for name, distance in (("NH1", 3.0), ("NH2", 2.0)):
        chain[30].atoms[places[name]] = (name, ".", 1.0, "", (cd[0] + distance, cd[1], cd[2]))
    return chain


def entries() -> dict[str, tuple[str, str | None]]:
    """Text and release date of every made-up entry."""
    broken = residues(homolog(QUERY, 7), 4)
    for one in broken[35:]:
        one.atoms = [(name, alt, share, code, (x + 200, y, z)) for name, alt, share, code, (x, y, z) in one.atoms]
    few = residues(homolog(QUERY, 8), 5)
    for at, one in enumerate(few):
        one.atoms = one.atoms[:4] if at == 20 else []
    enough = residues(homolog(QUERY, 9), 6)
    for at, one in enumerate(enough):
        one.atoms = one.atoms[:5] if at == 20 else []
    models = residues(homolog(QUERY, 4), 3)
    models[11].atoms = []
    plain = residues("GS" + homolog(QUERY, 5)[:60], 1)
    made = {
        "1aaa": (entry("1aaa", plain, "2010-01-01"), "2010-01-01"),
        "1bbb": (entry("1bbb", odd_chain(), "2021-09-30", author="H", label="B"), "2021-09-30"),
        "1ccc": (entry("1ccc", plain, "2011-01-01"), "2011-01-01"),
        "1ddd": (entry("1ddd", models, "2012-01-01", models=2), "2012-01-01"),
        "1eee": (entry("1eee", plain, "2021-10-01"), "2021-10-01"),
        "1fff": (entry("1fff", broken, "2012-01-01"), "2012-01-01"),
        "1ggg": (entry("1ggg", few, "2012-01-01"), "2012-01-01"),
        "1hhh": (entry("1hhh", enough, "2012-01-01"), "2012-01-01"),
        "1iii": (entry("1iii", plain, "2012-01-01"), None),
        "1jjj": (entry("1jjj", residues(QUERY[:5], 7), "2012-01-01"), "2012-01-01"),
        "1kkk": (entry("1kkk", residues(homolog(QUERY, 10)[10:40], 8), "2012-01-01"), "2012-01-01"),
    }
    return made


def cases(folder: Path) -> list[Case]:
    """The cases, whose entries are written into the folder."""
    made = entries()
    for name, (text, date) in made.items():
        if date is None:
            text = text.replace("2012-01-01", "?")
        (folder / f"{name}.cif").write_text(text)
    dates = {name: date for name, (_, date) in made.items() if date is not None}
    part = homolog(QUERY, 5)
    hits = {
        "all kinds": [
            *(row(name, part[:i] + "-" * (70 - i)) for i, name in ((60, "1aaa_A"), (59, "1ccc_A"), (58, "1eee_A"))),
            row("1bbb_H", part[:57] + "-" * 13),
            *(row(name, part[:i] + "-" * (70 - i)) for i, name in ((56, "1fff_A"), (55, "1ggg_A"), (54, "1iii_A"))),
            *(row(name, part[:i] + "-" * (70 - i)) for i, name in ((53, "1ddd_A"), (52, "1hhh_A"), (51, "1kkk_A"))),
        ],
        "filters": [
            row("1ddd_A", part[:50] + "-" * 20).replace("protein", "na"),
            row("1aaa_A", "-" * 30 + part[30:39] + "-" * 31),
            row("1aaa_A", part[:7] + part[7:20].lower() + "-" * 63),
            row("1aaa_A", QUERY[:67] + "---"),
            row("1ddd_B", part[:50] + "-" * 20),
            row("1jjj_A", part[:49] + "-" * 21),
            row("1kkk_A", part[:10] + "-" * 60),
            row("1ddd_A", part[:10] + "-" * 60),
            row("1hhh_A", part[:8] + part[8:20].lower() + "-" * 62),
        ],
        "twenty": [*(row("1fff_A", part[i:] + "-" * i) for i in range(20)), row("1aaa_A", part[20:] + "-" * 20)],
        "nineteen": [*(row("1fff_A", part[i:] + "-" * i) for i in range(19)), row("1aaa_A", part[20:] + "-" * 20)],
        "more than four": [
            row(name, part[:i] + "-" * (70 - i))
            for i, name in ((60, "1hhh_A"), (59, "1kkk_A"), (58, "1ddd_A"), (57, "1bbb_H"), (56, "1aaa_A"))
        ],
    }
    return [
        {"query": QUERY, "a3m": "".join(rows), "folder": str(folder), "dates": dates, "what": what}
        for what, rows in hits.items()
    ]


def upstream_on(made: list[Case], python: Path, folder: Path) -> dict[str, np.ndarray]:
    """What Protenix chooses and makes of it."""
    (folder / "cases.json").write_text(json.dumps(made))
    command = [
        "env",
        "OMP_NUM_THREADS=1",
        str(python),
        str(UPSTREAM),
        str(folder / "cases.json"),
        str(folder / "o.npz"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    with np.load(folder / "o.npz") as file:
        return compact(dict(file))


def recorded() -> dict[str, np.ndarray]:
    """What `upstream_on` gave when it was recorded, without the largest arrays."""
    with np.load(RECORDED) as file:
        found = dict(file)
    return found | {key: found[key] / 1000 for key in found if key.endswith(".positions")}


def compact(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks of residues instead of pairs, and places of the atoms alone that are there."""
    for key in [key for key in found if key.endswith(("pseudo_beta_mask", "backbone_frame_mask"))]:
        found[key] = np.diagonal(found[key], axis1=1, axis2=2) > 0
    for key in [key for key in found if key.endswith(".positions")]:
        found[key] = found[key][found[key.replace("positions", "mask")]]
    return found


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream-python", type=Path, required=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = upstream_on(cases(folder), parser.parse_args().upstream_python.absolute(), folder)
    large = ("distogram", "unit_vector", "atom_positions", "atom_mask")
    kept = {key: value for key, value in found.items() if not key.endswith(large)}
    for key in [key for key in kept if key.endswith(".positions")]:  # thousandths of an Å from a template's first atom
        counts = kept[key.replace("positions", "mask")].sum(axis=(1, 2))
        first = np.repeat(np.cumsum(counts) - counts, counts)
        kept[key] = np.round((kept[key] - kept[key][first]) * 1000).astype(np.int32)
    RECORDED.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORDED, allow_pickle=False, **kept)
    sys.stdout.write(f"{RECORDED}: {RECORDED.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
