"""Alignments: against recorded values of Protenix for every case of `feature_cases`, and bad input."""

import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from feature_cases import cases, protein

from foldline.chem.residues import GAP_RESTYPE, MSA_RESTYPE, RESTYPE
from foldline.errors import InputError
from foldline.features import msa as msa_module
from foldline.features.a3m import A3mSource
from foldline.features.columns import MsaArrays, msa_columns, needs_pairing
from foldline.features.msa import SequenceMsa, query_msa, read_msa
from foldline.inputs.job import Text

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "upstream_msa.npz"


def source(text: str, query: str, kind: str = "protein", what: str = "the unpaired MSA of chain A") -> A3mSource:
    return A3mSource(Text(text), what, kind, query, "$.sequences[0].protein.unpairedMsa")


def chain_msa(chain: dict, pairing: bool) -> SequenceMsa | None:
    if chain["kind"] == "ligand":
        return None
    if chain["kind"] == "dna":
        return query_msa("dna", chain["sequence"])
    paired = source(chain["paired"], chain["sequence"]) if chain["kind"] == "protein" else None
    return read_msa(source(chain["unpaired"], chain["sequence"], chain["kind"]), paired, pairing=pairing)


def build(entities: list[dict]) -> MsaArrays:
    pairing = needs_pairing([e["kind"] for e in entities], [e["sequence"] for e in entities])
    chains, token_chain, token_residue = [], [], []
    for entity in entities:
        one = chain_msa(entity, pairing)
        for _ in range(entity["count"]):
            length = len(entity["sequence"])
            token_chain += [len(chains)] * length
            token_residue += [0] * length if entity["kind"] == "ligand" else list(range(length))
            chains.append(one)
    return msa_columns(chains, np.array(token_chain), np.array(token_residue), pairing=pairing)


def check(recorded: Path) -> None:
    with np.load(recorded) as upstream:
        for name, entities in cases().items():
            ours = build(entities)
            for key in ("msa", "deletions", "profile", "deletion_mean"):
                np.testing.assert_array_equal(getattr(ours, key), upstream[f"{name}.{key}"], err_msg=f"{name} {key}")


def test_equals_recorded_values() -> None:
    check(RECORDED)


@pytest.mark.upstream
def test_equals_upstream_live(upstream_python: Path, tmp_path: Path) -> None:
    out = tmp_path / "upstream.npz"
    command = ["env", "LAYERNORM_TYPE=torch", upstream_python, HERE / "upstream_msa.py", out]
    subprocess.run(command, check=True)
    check(out)


def test_the_cases_are_hard_enough() -> None:
    """Pairing, both kinds of header, repeats, insertions beyond the clip and a gap row all occur."""
    ours = build(cases()["two_proteins"])
    assert ours.paired_rows > 20
    assert (ours.msa[: ours.paired_rows] == GAP_RESTYPE).mean() > 0.02
    assert ours.deletions.max() >= 4
    assert (ours.msa[1:, -11:] != ours.msa[0, -11:]).any()


QUERY = "MKVLA"


def test_windows_lines_colabfold_header_nul_blank_lines_wrapping_and_duplicates() -> None:
    text = "#5\t1\r\n\r\n>q\r\nMKV\r\nLA\r\n\r\n>a extra\r\nMKaacV-A\r\n>b\r\nMKV-A\r\n>c\r\n..MRVLAbb\r\n\0\r\n"
    one = read_msa(source(text, QUERY), None, pairing=False)
    assert one.rows.shape == (3, 5) and one.depth == 3
    assert one.deletions.tolist() == [[0] * 5, [0, 0, 3, 0, 0], [0] * 5]
    assert one.rows[1].tolist() == [RESTYPE["MET"], RESTYPE["LYS"], RESTYPE["VAL"], GAP_RESTYPE, RESTYPE["ALA"]]
    np.testing.assert_allclose(one.deletion_mean, [0, 0, 1, 0, 0])
    np.testing.assert_allclose(one.profile[1, [RESTYPE["LYS"], RESTYPE["ARG"]]], [2 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (">q\nMKVLA\n>h7 x\nMKV-\n", ["row 2 (h7 x)", "4 match columns", "5 residues"]),
        (">q\nMKVLA\n>h\nMKVLAA\n", ["row 2", "6 match columns"]),
        (">q\nMKVLG\n", ["row 1 (q)", "has G at position 5 where the sequence has A"]),
        (">q\nMK-VLA\n", ["row 1", "has gaps"]),
        (">q\nMKVL\n", ["row 1", "4 match columns"]),
        ("MKVLA\n", ["no record starts with '>'"]),
    ],
)
def test_bad_alignment_names_the_row_and_is_never_replaced(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read_msa(source(text, QUERY), None, pairing=False)
    assert caught.value.path == "$.sequences[0].protein.unpairedMsa"
    for word in ["the unpaired MSA of chain A", *words]:
        assert word in str(caught.value)


def test_letters_outside_the_alphabet_become_unknown_and_are_counted() -> None:
    one = read_msa(source(">q\nMKVLA\n>h\nM?*LA\n", QUERY), None, pairing=False)
    assert one.rows[1, 1:3].tolist() == [RESTYPE["UNK"]] * 2
    assert one.notes == ("the unpaired MSA of chain A: 2 letters outside the protein alphabet are read as UNK",)


def test_dots_pad_insertions() -> None:
    """As in a2m, where every row has a dot for a letter that another row inserts there."""
    one = read_msa(source(">q\nMK..VLA\n>h\nMKagVL-\n>g\n.MKa.VLA.\n", QUERY), None, pairing=False)
    assert one.deletions.tolist() == [[0] * 5, [0, 0, 2, 0, 0]]
    assert one.depth == 2  # the third row is the query again


def test_alphabets_follow_the_polymer() -> None:
    one = read_msa(source(">q\nACGU\nA\n>h\nTCG-A\n", "ACGUA", "rna"), None, pairing=False)
    assert one.rows[0].tolist() == [RESTYPE[x] for x in "ACGUA"]
    assert one.rows[1].tolist() == [RESTYPE["N"], RESTYPE["C"], RESTYPE["G"], GAP_RESTYPE, RESTYPE["A"]]
    assert query_msa("dna", "ACGT").rows[0].tolist() == [RESTYPE[x] for x in ("DA", "DC", "DG", "DT")]
    assert MSA_RESTYPE["protein"][ord("U")] == RESTYPE["CYS"]


@pytest.mark.parametrize("text", ["", "\n \n", ">q\nMKVLA\n"])
def test_empty_and_query_only(text: str) -> None:
    one = read_msa(source(text, QUERY), source("", QUERY), pairing=True)
    assert one.rows.shape == one.paired.shape == (1, 5) and one.depth == 1
    np.testing.assert_array_equal(one.profile.argmax(axis=1), one.rows[0])


def test_deep_alignment_keeps_a_bounded_number_of_rows_and_the_whole_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    entity = protein(70, 21, 400, ["9606"], "uniref")
    whole = chain_msa(entity, pairing=False)
    monkeypatch.setattr(msa_module, "KEPT_ROWS", 50)
    monkeypatch.setattr("foldline.inputs.records.BLOCK_CHARS", 777)
    cut = chain_msa(entity, pairing=False)
    assert whole is not None and cut is not None
    assert whole.depth == cut.depth > 200
    np.testing.assert_array_equal(cut.rows, whole.rows[:50])
    np.testing.assert_array_equal(cut.profile, whole.profile)
    np.testing.assert_array_equal(cut.deletion_mean, whole.deletion_mean)
    assert any("of which at most" in note for note in cut.notes) and not whole.notes


def test_rows_beyond_the_kept_ones_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the rows of which 20 are kept take no more memory at any moment."""
    monkeypatch.setattr(msa_module, "KEPT_ROWS", 20)
    rows = np.frombuffer(b"ACDEFGHIKL", np.uint8)[np.random.default_rng(0).integers(0, 10, (12_000, 2_000))]
    peaks = {}
    for depth in (4_000, 12_000):
        with (tmp_path / "deep.a3m").open("wb") as file:
            file.writelines(b">x\n" + row.tobytes() + b"\n" for row in rows[:depth])
        given = A3mSource(Text(path=tmp_path / "deep.a3m"), "the MSA", "protein", rows[0].tobytes().decode())
        tracemalloc.start()
        found = read_msa(given, None, pairing=False)
        peaks[depth] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.depth == depth and found.rows.shape == (20, 2_000)
    assert peaks[12_000] - peaks[4_000] < 4e6, peaks


def test_paired_rows_beyond_the_limit_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    entity = protein(80, 21, 100, ["9606"], "uniref")
    monkeypatch.setattr(msa_module, "READ_PAIRED_ROWS", 30)
    one = chain_msa(entity, pairing=True)
    assert one is not None and len(one.paired) == 30
    assert any("only the first 30 rows are read" in note for note in one.notes)


@pytest.mark.parametrize("path", ["absent.a3m", "."])
def test_missing_file_and_folder(path: str, tmp_path: Path) -> None:
    given = A3mSource(Text(path=tmp_path / path), "the unpaired MSA of chain A", "protein", QUERY)
    with pytest.raises(InputError, match="the unpaired MSA of chain A"):
        read_msa(given, None, pairing=False)
