"""What a page holds of a result: every number is that of the files, and nothing in it can run or be fetched."""

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldline.outputs.layout import remove_result
from foldline.outputs.report import page as page_module
from foldline.outputs.report.alignments import NO_KIND, NONE_ASKED, NONE_GIVEN, TOO_SHORT
from foldline.outputs.report.confidences import PAE_STEPS, PAE_UNKNOWN, pooled, quantised, read_confidences
from foldline.outputs.report.page import MAX_CELLS, pool_factor, script_safe, write_report
from foldline.outputs.report.record import read_record
from foldline.outputs.report.structure import put_on, upright
from foldline.structure.entities import EntitySpec


def unpack(text: str, dtype: str = "u1") -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def joined(text: str) -> np.ndarray:
    low, high = unpack(text).reshape(2, -1).astype(np.uint16)
    return low | high << 8


def contents(path: Path) -> dict[str, Any]:
    """The record in a page."""
    (text,) = re.findall(r'<script type="application/json" id="record">(.*?)</script>', path.read_text("utf-8"), re.S)
    return json.loads(text)


def distances(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, None] - x[None], axis=-1)


def test_scores_are_those_of_the_files_best_first(result: Any) -> None:
    path = write_report(result.folder)
    assert path == Path(f"{result.stem}_report.html")
    held = contents(path)
    wanted = {(s.seed, i): c for s in result.samples for i, c in enumerate(s.confidences)}
    scores = [sample["ranking_score"] for sample in held["samples"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    for sample in held["samples"]:
        source = wanted[sample["seed"], sample["sample"]]
        assert sample["ranking_score"] == source.ranking_score
        for key in ("ptm", "iptm"):
            assert sample[key] == pytest.approx(getattr(source, key), abs=0.0051)
        assert sample["mean_plddt"] == pytest.approx(source.plddt, abs=0.01)
        assert sample["chain_ptm"][-1] is None and len(sample["chain_pair_iptm"]) == 6
        assert sample["chain_pair_pae_min"][1][2] == pytest.approx(source.chain_pair_pae_min[1, 2], abs=0.0051)
    assert held["run"]["plan"]["stage_bytes"]["trunk"] == 3 * 2**30 and held["run"]["seconds"]["total"] == 46.0
    assert held["warnings"] == ["the model is <b>not</b> sure & says so"]


def test_arrays_are_those_of_the_files(result: Any) -> None:
    held = contents(write_report(result.folder))
    t = result.job.topology
    wanted = {(s.seed, i): (s.coordinates[i], c) for s in result.samples for i, c in enumerate(s.confidences)}
    n_token = held["n_token"]
    assert held["pae"] == {"size": n_token, "pool": 1, "steps": PAE_STEPS, "unknown": PAE_UNKNOWN}
    for sample in held["samples"]:
        coordinates, confidences = wanted[sample["seed"], sample["sample"]]
        steps = joined(sample["xyz"]).view(np.int16).reshape(3, t.n_atom)
        found = np.cumsum(steps.astype(np.int64), axis=1).astype(np.int16).T * held["scale"]
        assert np.abs(distances(found) - distances(coordinates.astype(np.float64))).max() < 0.01
        a, b, c, d = found[[0, 40, 90, 200]], coordinates[[0, 40, 90, 200]], np.linalg.det, np.sign
        assert d(c(a[1:] - a[0])) == d(c(b[1:] - b[0])), "mirrored"
        assert np.abs(joined(sample["plddt"]) / 100 - confidences.atom_plddt).max() < 0.0051
        pae = np.cumsum(unpack(sample["pae"]).reshape(n_token, n_token), axis=0, dtype=np.uint8) / PAE_STEPS
        assert np.abs(pae - confidences.pae.round(1)).max() <= 0.5 / PAE_STEPS + 0.051
        assert len(sample["secondary"]) == len(t.res_id)
    assert held["samples"][0]["rmsd"] < 1e-3 < held["samples"][1]["rmsd"]


def test_topology_and_chains(result: Any) -> None:
    held = contents(write_report(result.folder))
    t, tokens = result.job.topology, result.job.atom_to_token
    packed = json.loads(zlib.decompress(base64.b64decode(held["topology"])))
    assert np.cumsum(packed["atom_token"]).tolist() == tokens.tolist()
    assert np.cumsum(packed["atom_res"]).tolist() == t.atom_res.tolist()
    assert [packed["names"][i] for i in packed["atom_name"]] == t.atom_name.tolist()
    assert {packed["elements"][i] for i in packed["element"]} >= {"Zn", "P", "C"}
    bonds = np.cumsum(np.array(packed["bonds"]).reshape(-1, 3), axis=0)
    wanted = {frozenset(pair) for pair in t.bond_atoms.tolist()}
    missing = wanted - {frozenset(pair) for pair in bonds[:, :2].tolist()}
    assert not missing and len(bonds) == len({frozenset(pair) for pair in bonds[:, :2].tolist()})
    double = {frozenset(pair) for pair in bonds[bonds[:, 2] == 2, :2].tolist()}
    assert {frozenset(p) for p in t.bond_atoms[t.bond_order == 2].tolist()} <= double
    chains = held["chains"]
    assert [(c["id"], c["kind"]) for c in chains] == [
        *((name, "protein") for name in "AB"), ("C", "dna"), ("D", "rna"), ("E", "ligand"), ("F", "ligand"),
    ]  # fmt: skip
    assert chains[0]["first"] == 0 and chains[-1]["stop"] == held["n_token"]
    assert all(a["stop"] == b["first"] for a, b in zip(chains, chains[1:], strict=False))
    assert chains[0]["stop"] == 21 + 10  # phosphoserine has a token per atom
    assert chains[4]["components"] == ["ATP"] and chains[4]["stop"] - chains[4]["first"] == 31


def test_depth_counts_distinct_rows_of_both_alignments(result: Any) -> None:
    held = contents(write_report(result.folder))
    depth = unpack(held["depth"], "<u4")
    # query, a, b and c: a lacks two residues at either end, b all after the eleventh, c the eleventh
    residues = [3] * 2 + [4] * 8 + [3] * 10 + [2] * 2
    per_token = [*residues[:5], *[residues[5]] * 10, *residues[6:]]
    assert depth[:31].tolist() == per_token and depth[31:62].tolist() == per_token
    assert depth[62:70].tolist() == [1] * 8 and depth[70:78].tolist() == [2, 2, 1, 1, 2, 2, 2, 2]
    assert not depth[78:].any()
    assert [c["rows"] for c in held["chains"]] == [4, 4, 1, 2, 0, 0]
    assert held["chains"][2]["msa"] == NO_KIND and held["chains"][0]["msa"] == ""


@pytest.mark.parametrize(
    ("sequence", "unpaired", "run", "note"),
    [
        ("MKTAYIAK", "", {}, NONE_GIVEN),
        ("MKTAYIAK", ">q\nMKTAYIAK\n>x\nMKTAYIA-\n", {"msa": "none"}, NONE_ASKED),
        ("MKT", ">q\nMKT\n>x\nMK-\n", {}, TOO_SHORT),
    ],
)
def test_why_a_chain_has_its_own_sequence_alone(
    make: Any, tmp_path: Path, sequence: str, unpaired: str, run: dict[str, Any], note: str
) -> None:
    entities = [EntitySpec("protein", ("A",), sequence)]
    job = {"id": "A", "sequence": sequence, "unpairedMsa": unpaired, "pairedMsa": "", "templates": []}
    made = make(tmp_path, run=run, chains=(entities, [{"protein": job}]))
    held = contents(write_report(made.folder))
    assert (held["chains"][0]["rows"], held["chains"][0]["msa"]) == (1, note)
    assert held["samples"][0]["iptm"] is None
    assert unpack(held["depth"], "<u4").tolist() == [1] * len(sequence)


def test_a_lone_ion(make: Any, tmp_path: Path) -> None:
    chains = ([EntitySpec("ligand", ("A",), ccd_codes=("MG",))], [{"ligand": {"id": "A", "ccdCodes": ["MG"]}}])
    held = contents(write_report(make(tmp_path, seeds=(1,), chains=chains).folder))
    assert held["n_token"] == 1 and held["samples"][0]["chain_ptm"] == [None]


class Elements(HTMLParser):
    """Elements of a page with their attributes, and the text of its title and heading."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.texts[self.found[-1][0]] = self.texts.get(self.found[-1][0], "") + data


ODD = "</script><b>x <!-- $record & \u2028 'a\" 日本 ${title}"


def test_an_odd_name_is_text(make: Any, tmp_path: Path) -> None:
    plain, odd = make(tmp_path / "1"), make(tmp_path / "2", name=ODD)
    pages = []
    for made in (plain, odd):
        reader = Elements()
        reader.feed(write_report(made.folder).read_text("utf-8"))
        pages.append(reader)
    assert [tag for tag, _ in pages[0].found] == [tag for tag, _ in pages[1].found]
    assert pages[1].texts["h1"].strip() == ODD and f"{ODD} · Foldline" in pages[1].texts["title"]
    assert contents(odd.folder / f"{odd.job.name}_report.html")["name"] == ODD


def test_json_cannot_end_its_element() -> None:
    text = script_safe({"a": "</script><!--<script>]]>&\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--<script>]]>&\u2028"}
    with pytest.raises(ValueError):
        script_safe({"a": float("nan")})


def test_nothing_is_fetched(result: Any) -> None:
    reader = Elements()
    reader.feed(write_report(result.folder).read_text("utf-8"))
    links = [v for _, attrs in reader.found for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
    assert sorted(set(links)) == ["#structure", "data:,"]
    (policy,) = [attrs["content"] for tag, attrs in reader.found if attrs.get("http-equiv")]
    assert policy and policy.startswith("default-src 'none'") and "http" not in policy
    text = (Path(f"{result.stem}_report.html")).read_text("utf-8")
    viewer = Path(page_module.__file__).with_name("3Dmol-min.js").read_bytes()
    assert "Copyright (c) 2014, University of Pittsburgh" in text and viewer.decode() in text
    assert hashlib.sha256(viewer).hexdigest() in text, "the licence file tells another 3Dmol-min.js"


def test_the_same_result_gives_the_same_page(result: Any) -> None:
    first = write_report(result.folder).read_bytes()
    assert write_report(result.folder).read_bytes() == first


def test_many_samples_are_all_in_the_table(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MAX_SHOWN", 3)
    held = contents(write_report(make(tmp_path).folder))
    assert ["xyz" in sample for sample in held["samples"]] == [True, True, True, False]
    assert len(held["strips"]) == 3 and all("ranking_score" in sample for sample in held["samples"])


def test_large_maps_are_pooled(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = contents(write_report(result.folder))
    n = fine["n_token"]
    monkeypatch.setattr(page_module, "MAX_CELLS", 4 * (n // 3) ** 2)
    coarse = contents(write_report(result.folder))
    assert coarse["pae"]["pool"] == 4 and coarse["pae"]["size"] == -(-n // 4)
    maps = [np.cumsum(unpack(h["samples"][0]["pae"]).reshape(h["pae"]["size"], -1), axis=0, dtype=np.uint8)
            for h in (fine, coarse)]  # fmt: skip
    assert maps[1][2, 5] == pytest.approx(maps[0][8:12, 20:24].mean(), abs=0.51)


@pytest.mark.parametrize(("n_token", "n_sample"), [(1, 1), (245, 2), (1200, 5), (1549, 1), (5120, 20)])
def test_all_maps_together_are_bounded(n_token: int, n_sample: int) -> None:
    factor = pool_factor(n_token, n_sample)
    assert n_sample * (n_token / factor) ** 2 <= MAX_CELLS
    assert factor == 1 or n_sample * (n_token / (factor - 1)) ** 2 > MAX_CELLS


def test_quantised_and_pooled() -> None:
    values = np.array([[0.2, 31.75, 40.0], [np.nan, 12.34, 0.0], [np.nan, np.nan, 8.0]], np.float32)
    steps = quantised(values)
    assert steps.tolist() == [[2, 254, 254], [255, 99, 0], [255, 255, 64]]
    assert pooled(steps, 2).tolist() == [[118, 127], [255, 64]]
    assert pooled(steps, 1) is steps


def test_confidences_in_other_spacing(result: Any) -> None:
    """Python's own way to write JSON; the PAE must be the same."""
    path = result.folder / "seed-1_sample-0" / f"{result.job.name}_seed-1_sample-0_confidences.json"
    before = read_confidences(path)
    value = json.loads(path.read_text())
    value["pae"][3][4] = None
    path.write_text(json.dumps(value, indent=2))
    after = read_confidences(path)
    assert after.pae[3, 4] == PAE_UNKNOWN and (after.pae != before.pae).sum() == 1
    assert (after.atom_plddt == before.atom_plddt).all() and after.token_res == before.token_res


def test_samples_are_put_on_each_other() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)) * (3, 20, 8)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn[:, 0] *= np.sign(np.linalg.det(turn))
    fitted, rmsd = put_on(x, x @ turn + 5, np.arange(0, 50, 2))
    assert rmsd < 1e-5 and np.abs(fitted - x).max() < 1e-4
    stood = upright(x)
    assert (np.diff(stood.std(axis=0)) < 0).all() and np.abs(stood.mean(axis=0)).max() < 1e-12
    assert np.allclose(distances(stood), distances(x))
    assert np.sign(np.linalg.det(stood[1:4] - stood[0])) == np.sign(np.linalg.det(x[1:4] - x[0]))


def test_a_helix_is_drawn_as_one(make: Any, tmp_path: Path) -> None:
    sequence = "MKTAYIAKQRQISFVKSHFS"
    job = {"id": "A", "sequence": sequence, "unpairedMsa": "", "pairedMsa": "", "templates": []}
    made = make(tmp_path, seeds=(1,), count=1, chains=([EntitySpec("protein", ("A",), sequence)], [{"protein": job}]))
    record = read_record(made.folder)
    angle = np.radians(100) * np.arange(20)
    trace = np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(20)], axis=1)
    letters = record.structure.secondary(trace[record.structure.atom_res])
    assert letters[2:-2] == "h" * 16
    straight = np.stack([np.arange(20) * 3.3, (np.arange(20) % 2) * 1.9, 0 * angle], axis=1)
    assert "h" not in record.structure.secondary(straight[record.structure.atom_res])


def test_a_report_goes_with_its_result(result: Any) -> None:
    write_report(result.folder)
    Path(f"{result.stem}_seed-1_sample-0_pae.png").write_bytes(b"old")
    (result.folder / "mine.txt").write_text("kept")
    remove_result(result.folder, result.job.name)
    assert [path.name for path in result.folder.iterdir()] == ["mine.txt"]


def test_scores_follow_the_file(result: Any) -> None:
    """The record is read from the files, not from anything else: a changed pTM is a changed record."""
    record = read_record(result.folder)
    best = record.scores[0]
    path = result.folder / f"seed-{best.seed}_sample-{best.sample}"
    for file in (next(path.glob("*_summary_confidences.json")), Path(f"{result.stem}_summary_confidences.json")):
        summary = json.loads(file.read_text()) | {"ptm": 0.123}
        file.write_text(json.dumps(summary))
    assert replace(best, ptm=0.123) == read_record(result.folder).scores[0]
