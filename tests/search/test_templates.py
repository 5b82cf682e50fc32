"""Template search: rows against hmmbuild and hmmsearch, AlphaFold 3's filters one by one, chains as mmCIF."""

import datetime
import subprocess
from dataclasses import replace
from pathlib import Path

import hmmer_reference
import pytest
from made_databases import mutated, sequence
from made_structures import entry, residues

from foldline.execute import InProcess
from foldline.search.databases import Database
from foldline.search.pyhmmer_tool import PyHmmer
from foldline.search.recipes import TEMPLATES, Search
from foldline.search.rows import Alignment, read_a3m
from foldline.search.template_hits import Hit, Structure, filtered, hit_of, mapping_of
from foldline.search.templates import KEPT_CHAINS, KEPT_ENTRIES, Structures, chain_mmcif, choose, stockholm
from foldline.structure.mmcif_in import read_template

CUTOFF = datetime.date(2021, 9, 30)
LATE = datetime.date(2030, 1, 1)


def alignment(query: str) -> Alignment:
    """A query with homologs that have gaps and insertions."""
    rows = [query]
    for copy in range(6):
        letters = list(mutated(query, "protein", 0.2, copy)[: len(query)].ljust(len(query), "-"))
        letters[5 * copy] += "ag"
        rows.append("".join(letters))
    rows[-1] = "mk" + rows[-1] + "e"
    return Alignment(tuple(f"r{i}" for i in range(len(rows))), tuple(rows))


def test_stockholm_has_a_column_for_every_insertion() -> None:
    lines = stockholm(Alignment(("q", "a", "b"), ("ACD", "A-Dkl", "gAmCD"))).splitlines()
    assert lines[2:7] == ["r0 -A-CD--", "r1 -A--DKL", "r2 GAMCD--", "#=GC RF .x.xx..", "//"]


def expected_rows(text: str, database: Path, folder: Path) -> list[tuple[str, str]]:
    (folder / "q.sto").write_text(text)
    build = "hmmbuild -o /dev/null --informat stockholm --hand --amino {0}/p {0}/q.sto"
    search = "hmmsearch -o /dev/null --noali --cpu 1 --F1 0.1 --F2 0.1 --F3 0.1 -E 100 --incE 100 --domE 100"
    search += " --incdomE 100 -A {0}/hits.sto {0}/p {1}"
    for command in (build, search):
        subprocess.run(command.format(folder, database).split(), check=True)
    rows, descriptions = hmmer_reference.stockholm(folder / "hits.sto", 100_000)
    return [(f"{name} {descriptions.get(name, '')}".strip(), text.replace(".", "")) for name, text in rows.items()]


def test_rows_are_those_of_hmmsearch(
    made: dict[str, Path], queries: dict[str, list[str]], hmmer: None, tmp_path: Path
) -> None:
    for query in queries["protein"]:
        text = stockholm(alignment(query))
        size = len(hmmer_reference.records(made["protein"]))
        with InProcess(1) as executor:
            search = Search(TEMPLATES, float(size))
            rows = PyHmmer(piece=4000).search_profile(text, [made["protein"]], search, executor)
        assert [(row.header, row.text) for row in rows] == expected_rows(text, made["protein"], tmp_path)
        assert len(rows) > 10


@pytest.mark.parametrize("name", ["5sak/1", "7r6r/1", "7wux/1", "7wux/2"])
def test_rows_of_real_alignments(name: str, shared_data: Path, hmmer: None, tmp_path: Path) -> None:
    """Weak hits turn on the five decimals of the file that hmmbuild hands to hmmsearch."""
    folder = shared_data / "msa" / name
    text = "".join((folder / f"{one}.a3m").read_text() for one in ("pairing", "non_pairing"))
    whole = read_a3m(text, name)
    profile = stockholm(Alignment(whole.headers[:300], whole.rows[:300]))
    database = next((shared_data / "databases").glob("pdb_seqres*"))
    with InProcess(1) as executor:
        search = Search(TEMPLATES, float(len(hmmer_reference.records(database))))
        rows = PyHmmer().search_profile(profile, [database], search, executor)
    assert [(row.header, row.text) for row in rows] == expected_rows(profile, database, tmp_path)
    assert len(rows) > 50


def test_real_structures(shared_data: Path, hmmer: None, tmp_path: Path) -> None:
    """The four entries that have structures are found by a homolog, with the residues that are the same."""
    folder = shared_data / "databases"
    database = next(folder.glob("pdb_seqres*"))
    known = dict(hmmer_reference.records(database))
    for name, date in (("5y2e_A", "2018"), ("6s61_M", "2019"), ("6ydw_Bj", "2020"), ("7rye_J", "2021")):
        header = next(one for one in known if one.startswith(name))
        query = "M" + "".join("A" if i % 9 == 4 else letter for i, letter in enumerate(known[header]))
        text = stockholm(Alignment(("query",), (query,)))
        with InProcess(1) as executor:
            search = Search(TEMPLATES, float(len(known)))
            rows = PyHmmer().search_profile(text, [database], search, executor)
        assert [(row.header, row.text) for row in rows] == expected_rows(text, database, tmp_path)
        hits = [hit for row in rows if (hit := hit_of(row.header, row.text)) is not None]
        assert len(hits) == len(rows)
        structures = Structures(Database("mmcif", (folder / "mmcif",)))
        found, _ = choose(query, hits, structures, LATE)
        assert found[0].name == name
        chain = read_template(found[0].mmcif)
        assert len(chain.sequence) == len(
            read_template((folder / "mmcif" / f"{name[:4]}.cif").read_text(), name[5:]).sequence
        )
        same = sum(
            query[i] == chain.sequence[j]
            for i, j in zip(found[0].query_indices, found[0].template_indices, strict=True)
        )
        assert same > 0.8 * len(found[0].query_indices) > 0.6 * len(query)
        block = structures.block(name[:4])
        assert block is not None
        released = min(block.find_values("_pdbx_audit_revision_history.revision_date"))
        day = datetime.date.fromisoformat(released)
        assert day.year >= int(date)
        assert [one.name for one in choose(query, hits, structures, day)[0]][0] == name
        before = day - datetime.timedelta(days=1)
        found, dropped = choose(query, hits, structures, before)
        assert name not in [one.name for one in found]
        assert (name, f"released after {before}") in dropped
        assert structures.missing


def test_a_chain_alone_as_mmcif(shared_data: Path) -> None:
    import gemmi

    text = (shared_data / "databases" / "mmcif" / "6ydw.cif").read_text()
    made = chain_mmcif(gemmi.cif.read_string(text)[0], "Bj")
    assert set(gemmi.cif.read_string(made)[0].find_values("_atom_site.auth_asym_id")) == {"Bj"}
    one, whole = read_template(made), read_template(text, "Bj")
    assert one.sequence == whole.sequence
    assert (one.positions == whole.positions).all()
    assert (one.residue_number == whole.residue_number).all()
    assert "_pdbx_audit_revision_history.revision_date" in made


QUERY = sequence("protein", 60, 5)
OTHER = "W".join(QUERY[i : i + 7] for i in range(0, 60, 8))  # a homolog, no piece of the query


def structure(text: str, resolved: bool = True, released: datetime.date = CUTOFF) -> Structure:
    return Structure(text, (resolved,) * len(text), released)


def names(hits: list[Hit], structures: dict[str, Structure]) -> list[str]:
    kept = filtered(QUERY, hits, lambda hit: structures.get(hit.pdb_id), CUTOFF)
    return [one.hit.pdb_id for one in kept]


def hit(name: str, text: str, start: int = 0, more: int = 0) -> Hit:
    residues = len(text.replace("-", ""))
    return Hit(name, "A", text, start, start + residues, start + residues + more)


def test_filters_one_by_one() -> None:
    n = len(OTHER)
    good = hit("good", OTHER + "-" * (60 - n))
    assert names([good], {"good": structure(OTHER)}) == ["good"]
    assert names([good], {}) == []
    assert names([good], {"good": structure(OTHER, released=CUTOFF + datetime.timedelta(days=1))}) == []
    assert names([good], {"good": structure(OTHER, resolved=False)}) == []
    assert names([hit("self", QUERY)], {"self": structure(QUERY)}) == []
    assert names([hit("self", QUERY[:57] + "---")], {"self": structure(QUERY[:57])}) == ["self"]
    assert names([hit("self", QUERY[:58] + "--")], {"self": structure(QUERY[:58])}) == []
    for length, passes in ((9, False), (10, True)):
        short = hit("short", OTHER[:length] + "-" * (60 - length))
        assert bool(names([short], {"short": structure(OTHER[:length])})) == passes
    for columns, passes in ((6, False), (7, True)):
        few = hit("few", OTHER[:columns] + OTHER[columns:20].lower() + "-" * (60 - columns))
        assert bool(names([few], {"few": structure(OTHER[:20])})) == passes


def test_equal_images_are_kept_once_and_four_at_most() -> None:
    texts = {f"h{i}xx": mutated(QUERY, "protein", 0.3, i)[:50] for i in range(6)}
    hits = [hit(name, text + "-" * (60 - len(text))) for name, text in texts.items()]
    structures = {name: structure(text) for name, text in texts.items()}
    doubled = [hits[0], replace(hits[0], pdb_id="same"), *hits[1:]]
    assert names(doubled, structures | {"same": structures["h0xx"]}) == ["h0xx", "h1xx", "h2xx", "h3xx"]


def test_headers() -> None:
    assert hit_of("4pqx_A/2-4 [subseq from] mol:protein length:217  Free text", "AC-D") == Hit(
        "4pqx", "A", "AC-D", 1, 4, 217
    )
    named = hit_of("5g3r_AA1/1-55 [subseq from] mol:protein length:352", "A")
    assert named is not None and named.protein
    nucleic = hit_of("5g3r_R/1-55 [subseq from] mol:na length:352  RNA", "A")
    assert nucleic is not None and not nucleic.protein
    assert hit_of("5g3r_A/1-55 something else", "A") is None


def test_indices_follow_the_structure() -> None:
    found = hit("test", "AC-DefGH", start=3, more=2)
    assert mapping_of(found, "xxxACDEFGHxx".upper()) == {0: 3, 1: 4, 3: 5, 4: 8, 5: 9}
    same_length = "XXXACDEFGMXX"  # another letter for a modified residue
    assert mapping_of(found, same_length) == {0: 3, 1: 4, 3: 5, 4: 8, 5: 9}
    assert mapping_of(found, "XXXACDEFGHXXXX") == mapping_of(found, same_length)
    assert mapping_of(found, "XXXAMDEFGHXXXX") is None


def test_a_structure_that_lacks_residues_of_the_database() -> None:
    """The example of AlphaFold 3's documentation of its realignment."""
    found = Hit("test", "A", "---DEFGHIJK-", 1, 9, 10)
    assert mapping_of(found, "XDEFGHKL") == {3: 1, 4: 2, 5: 3, 6: 4, 7: 5, 10: 6}


def test_of_equally_good_places_the_first_is_taken() -> None:
    """As in AlphaFold 3, which prefers more residues missing before the piece."""
    assert mapping_of(Hit("test", "A", "GGGM", 1, 5, 6), "GGGGG") == {0: 0, 1: 1, 2: 2, 3: 3}


def test_few_entries_are_kept_in_memory(tmp_path: Path) -> None:
    """Whatever the number of hits; a date is read once."""
    for i in range(20):
        text = entry(f"{i:04}", residues(mutated(QUERY, "protein", 0.3, i), i), "2000-01-01")
        (tmp_path / f"{i:04}.cif").write_text(text)
    structures = Structures(Database("mmcif", (tmp_path,)))
    read = [structures.describe(Hit(f"{i:04}", "A", "A", 0, 1, 1)) for i in range(20)]
    assert None not in read
    assert (len(structures._blocks), len(structures._chains)) == (KEPT_ENTRIES, KEPT_CHAINS)
    for path in tmp_path.iterdir():
        path.unlink()
    assert [structures.released(f"{i:04}") for i in range(20)] == [datetime.date(2000, 1, 1)] * 20


def test_a_chain_that_is_not_there_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "1abc.cif").write_text(entry("1abc", residues(OTHER, 1), "2000-01-01"))
    structures = Structures(Database("mmcif", (tmp_path,)))
    hits = [Hit("1abc", chain, OTHER, 0, len(OTHER), len(OTHER)) for chain in ("B", "R", "A")]  # R is RNA
    found, _ = choose(QUERY, hits, structures, CUTOFF)
    assert [one.name for one in found] == ["1abc_A"]
    assert structures.missing == ["1abc_B", "1abc_R"]
