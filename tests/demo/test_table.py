"""The table of a result beside an experiment."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from foldline.errors import InputError
from tools.train_demo.compare import atoms_by_place, deviation
from tools.train_demo.table import rows_of, table_of

ATOM = "{kind} {n} {element} {name} . {residue} {chain} {entity} {number} {x:.3f} {y:.3f} {z:.3f} 1 10 {author} 1"
COLUMNS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id"
    " Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_asym_id pdbx_PDB_model_num"
)
RNG = np.random.default_rng(0)
CHAIN, HEME = RNG.normal(size=(20, 3)) * 8, RNG.normal(size=(4, 3)) * 3
TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def write(path: Path, chain: np.ndarray, ligand: np.ndarray, names: tuple[str, str], first: int = 1) -> None:
    """An mmCIF file of CA atoms and a haem of four atoms."""
    rows = [
        ATOM.format(
            kind="ATOM", n=i, element="C", name="CA", residue="GLY", chain=names[0], entity=1, number=first + i,
            x=x, y=y, z=z, author="A",
        )
        for i, (x, y, z) in enumerate(chain)
    ]  # fmt: skip
    rows += [
        ATOM.format(
            kind="HETATM", n=100 + i, element="N", name=name, residue="HEM", chain=names[1], entity=2, number=".",
            x=x, y=y, z=z, author="A",
        )
        for i, (name, (x, y, z)) in enumerate(zip(("NA", "NB", "NC", "ND"), ligand, strict=True))
    ]  # fmt: skip
    entities = "loop_\n_entity.id\n_entity.type\n1 polymer\n2 non-polymer\n"
    loop = "loop_\n" + "".join(f"_atom_site.{name}\n" for name in COLUMNS.split())
    path.write_text(f"data_x\n{entities}{loop}" + "\n".join(rows) + "\n")


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """The chain as chain Q from residue 5 on, the haem as chain Z."""
    write(tmp_path / "experiment.cif", CHAIN, HEME, ("Q", "Z"), first=5)
    return tmp_path / "experiment.cif"


CHAINS = {"A": {"chain": "Q", "first": 5}, "B": {"chain": "Z", "first": 1}}


def test_a_turned_copy_deviates_by_nothing_and_a_moved_ligand_by_its_way(experiment: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.cif"
    write(model, CHAIN @ TURN + 7, (HEME + [0, 0, 2.5]) @ TURN + 7, ("A", "B"))
    found = deviation(model, experiment, CHAINS, {"B"})
    assert found.n_polymer == 20
    assert found.polymer == pytest.approx(0, abs=2e-3) and found.ligand == pytest.approx(2.5, abs=5e-3)


def test_a_mirror_image_is_no_copy(experiment: Path, tmp_path: Path) -> None:
    write(tmp_path / "model.cif", CHAIN * [1, 1, -1], HEME, ("A", "B"))
    assert deviation(tmp_path / "model.cif", experiment, CHAINS, {"B"}).polymer > 3


def test_what_cannot_be_compared_is_named(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing in common"):
        deviation(experiment, experiment, CHAINS, {"B"})
    (tmp_path / "bad.cif").write_text("no structure")
    with pytest.raises(InputError, match="not a readable structure|holds no model"):
        atoms_by_place(tmp_path / "bad.cif")


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result of two samples, the better one last."""
    folder = tmp_path / "myoglobin"
    folder.mkdir()
    (folder / "myoglobin_ranking_scores.csv").write_text("seed,sample,ranking_score\n1,0,0.2\n1,1,0.9\n")
    for sample, shift in ((0, 4.0), (1, 1.0)):
        stem = folder / f"seed-1_sample-{sample}" / f"myoglobin_seed-1_sample-{sample}"
        stem.parent.mkdir(parents=True)
        Path(f"{stem}_summary_confidences.json").write_text(json.dumps({"ptm": 0.5}))
        Path(f"{stem}_confidences.json").write_text(json.dumps({"atom_plddts": [80.0, 90.0]}))
        write(Path(f"{stem}_model.cif"), CHAIN, HEME + [shift, 0, 0], ("A", "B"))
    return folder


def test_samples_are_listed_best_first(result: Path, tmp_path: Path) -> None:
    assert [(row.name, row.plddt, row.deviation) for row in rows_of(result, None)] == [
        ("seed-1_sample-1", 85.0, None),
        ("seed-1_sample-0", 85.0, None),
    ]
    write(tmp_path / "pdb.cif", CHAIN, HEME, ("A", "C"))
    rows = rows_of(result, tmp_path / "pdb.cif")
    assert [row.deviation and round(row.deviation.ligand, 1) for row in rows] == [1.0, 4.0]
    console = Console(record=True, width=100)
    console.print(table_of(rows))
    best = next(line for line in console.export_text().splitlines() if "sample-1" in line)
    assert [cell.strip() for cell in best.split("│")[1:-1]] == [
        "seed-1_sample-1",
        "0.900",
        "85.0",
        "0.500",
        "0.00",
        "1.00",
    ]


def test_a_folder_that_is_no_result_is_bad_input(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.train_demo.table", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "not a finished result" in done.stderr


def test_the_table_is_followed_by_what_the_run_warned_of(result: Path, root: Path) -> None:
    command = [sys.executable, "-m", "tools.train_demo.table", str(result)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and "not a finished result" in done.stderr and done.stdout == ""
    (result / "myoglobin_run.json").write_text(json.dumps({"warnings": ["it means nothing"]}))
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "note: it means nothing"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nonsense"], "no such option: --nonsense"),
        (["absent.cif"], "absent.cif: no such file"),
        (["--out"], "its value is missing"),
    ],
)
def test_the_script_refuses_before_it_installs(words: list[str], says: str, root: Path, tmp_path: Path) -> None:
    done = subprocess.run([str(root / "scripts/demo"), *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and says in done.stderr


def test_the_script_tells_its_usage(root: Path) -> None:
    done = subprocess.run([str(root / "scripts/demo"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: scripts/demo [EXPERIMENT.cif]" in done.stdout
