"""Columns of an alignment of another sequence, moved to the chain's residues, against a way that goes by letter."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.errors import InputError
from foldline.inputs import Text, anchor, open_text, read_text
from foldline.inputs.anchor import anchored
from foldline.inputs.job import Mending

QUERY = "MKTAYIAKQRQISFVKSHFSRQ"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def moved(text: str, query: str, partners: tuple[int, ...], bases: bool = False) -> list[tuple[str, str]]:
    """Headers and rows as they are read."""
    lines = read_text(Text(text, mending=Mending(query, partners, bases, "$.place")), "it").splitlines()
    return list(zip((line[1:] for line in lines[::2]), lines[1::2], strict=True))


def one_by_one(row: str, n_residue: int, partners: tuple[int, ...]) -> str:
    """A row with a slot for every residue and in front of it one for insertions."""
    residues, inserted = ["-"] * n_residue, [""] * (n_residue + 1)
    column, last = 0, -1
    for letter in row:
        if letter.islower():
            inserted[last + 1] += letter
            continue
        if partners[column] >= 0:
            last = partners[column]
            residues[last] = letter
        elif letter != "-":
            inserted[last + 1] += letter.lower() if letter.isalpha() else "x"
        column += 1
    return "".join(i + r for i, r in zip(inserted, [*residues, ""], strict=True))


@st.composite
def alignments(draw: st.DrawFn) -> tuple[int, tuple[int, ...], list[str]]:
    n_column, n_residue = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    shared = draw(st.integers(0, min(n_column, n_residue)))
    columns = sorted(draw(st.permutations(range(n_column)))[:shared])
    residues = sorted(draw(st.permutations(range(n_residue)))[:shared])
    pairs = dict(zip(columns, residues, strict=True))
    row = st.lists(
        st.tuples(st.text("acdx", max_size=2), st.sampled_from("ACDX-*")), min_size=n_column, max_size=n_column
    )
    rows = draw(st.lists(st.tuples(row, st.text("gy", max_size=2)), min_size=1, max_size=6))
    texts = ["".join(i + c for i, c in letters) + tail for letters, tail in rows]
    return n_residue, tuple(pairs.get(column, -1) for column in range(n_column)), texts


@settings(max_examples=200, deadline=None)
@given(alignments(), st.integers(1, 40))
def test_rows_are_moved_letter_by_letter(made: tuple[int, tuple[int, ...], list[str]], batch: int) -> None:
    n_residue, partners, rows = made
    query = QUERY[:n_residue]
    text = "".join(f">{number}\n{row}\n" for number, row in enumerate(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchor, "_BATCH", batch)
        found = moved(text, query, partners)
    expected = [(str(number), one_by_one(row, n_residue, partners)) for number, row in enumerate(rows)]
    assert found == (expected if expected[0][1] == query else [("query", query), *expected])


def test_a_text_in_many_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f">{number}\n{QUERY[:number]}aa{QUERY[number:]}\n" for number in range(20))
    partners = (-1, -1, *range(1, 21))
    whole = moved(text, QUERY[1:], partners)
    monkeypatch.setattr("foldline.inputs.records.BLOCK_CHARS", 50)
    assert moved(text, QUERY[1:], partners) == whole
    assert whole[:2] == [("query", QUERY[1:]), ("0", f"aamk-{QUERY[2:]}")]
    assert len(whole) == 21


def test_the_stream_reads_in_pieces_of_any_size() -> None:
    text = Text(f">q\n{QUERY}\n>x\n{QUERY}\n", mending=Mending(QUERY[1:], (-1, *range(21))))
    with open_text(text, "it") as stream:
        pieces = list(iter(lambda: stream.read(7), ""))
    assert "".join(pieces) == read_text(text, "it") and max(map(len, pieces)) == 7


def test_pieces_may_be_longer_than_what_is_read_at_once() -> None:
    long = QUERY * 1000
    text = Text(f">q\n{long}\n>x\n{long}\n", mending=Mending(f"{long}A", tuple(range(22000))))
    with open_text(text, "it") as stream:
        pieces = list(iter(lambda: stream.read(100), ""))
    assert "".join(pieces) == f">query\n{long}A\n>q\n{long}-\n>x\n{long}-\n"


def test_a_first_row_that_becomes_the_query_is_not_repeated() -> None:
    assert moved(">q\nM-KT\n>x\nMAKT\n", "MKT", (0, -1, 1, 2)) == [("q", "MKT"), ("x", "MaKT")]


def test_t_is_read_as_u_and_headers_stay() -> None:
    assert moved(">TtT\nGAtTC\n", "", (), bases=True) == [("TtT", "GAuUC")]


@pytest.mark.parametrize("before", [0, 3])
def test_a_row_of_another_length_is_named_by_its_number_in_the_file(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr("foldline.inputs.records.BLOCK_CHARS", 40)
    text = f">q\n{QUERY}\n" + f">x\n{QUERY}\n" * before + f">odd one\n{QUERY}A\n"
    with pytest.raises(InputError) as caught:
        moved(text, QUERY[1:], (-1, *range(21)))
    assert caught.value.message.startswith(f"row {before + 2} (odd one) has 23 match columns where row 1 has 22: ")
    assert caught.value.path == "$.place"


CASES = {
    "one residue differs": ("MKTAYIAKQWQISFVKSHFSRQ", QUERY, range(22), 21 / 22),
    "gaps where the chain has residues": ("MK-AYIAKQRQISFV--HFSRQ", QUERY, range(22), 1),
    "a tag less": (f"GSH{QUERY}", QUERY, [-1] * 3 + list(range(22)), 1),
    "a tag more": (QUERY[5:], QUERY, range(5, 22), 1),
    "a piece of a long one": (f"{'W' * 30}{QUERY}{'P' * 30}", QUERY, [-1] * 30 + list(range(22)) + [-1] * 30, 1),
    "a gap column": (f"{QUERY[:8]}-{QUERY[8:]}", QUERY, [*range(8), -1, *range(8, 22)], 1),
    "a gap where the chain repeats a residue": (f"M-K{QUERY[2:]}", f"MKK{QUERY[2:]}", range(23), 1),
    "or there": (f"MK-{QUERY[2:]}", f"MKK{QUERY[2:]}", range(23), 1),
    "a loop less": (QUERY[:8] + QUERY[11:], QUERY, [*range(8), *range(11, 22)], 1),
    "other ends": (f"W{QUERY[1:]}GG", QUERY, [*range(22), -1, -1], 21 / 22),
    "a tag, and gaps where the chain has residues": (
        f"GSH{QUERY[:8]}---{QUERY[11:]}",
        QUERY,
        [-1] * 3 + list(range(22)),
        19 / 22,
    ),
    "letters that few know": ("MKUAYOIAKJ*B", "MKCAYXIAKXXB", range(12), 1),
    "nothing": ("", QUERY, [], 0),
    "gaps alone": ("---", QUERY, [-1] * 3, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_columns_find_their_residues(case: str) -> None:
    first, query, partners, identity = CASES[case]
    found = anchored(first.encode(), query, "protein")
    assert found.partners == tuple(partners)
    assert found.identity == pytest.approx(identity)


def test_bases() -> None:
    found = anchored(b"GGCUAGGAUCAUU", "AAGGCUAGGAUC", "rna")
    assert found.partners == (*range(2, 12), -1, -1, -1) and found.identity == pytest.approx(10 / 12)
    assert anchored(b"UUUUCUUUU", "AAUUUUCUUUU", "rna").partners == tuple(range(2, 11))
    assert anchored(b"GGCN", "GGCN", "rna").identity == 1


def test_too_long_pairs_are_refused_before_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "MAX_CELLS", 22 * 21)
    assert anchored(f"-{QUERY[:21]}".encode(), QUERY, "protein").identity == 1
    with pytest.raises(ValueError, match="22 and 22 residues"):
        anchored(QUERY.encode(), QUERY, "protein")


@settings(max_examples=40, deadline=None)
@given(
    st.text(LETTERS, min_size=40, max_size=80),
    st.text(LETTERS, max_size=10),
    st.text(LETTERS, max_size=10),
    st.integers(10, 30),
    st.integers(0, 5),
)
def test_what_tags_and_a_lost_loop_hide_is_found_again(core: str, head: str, tail: str, at: int, lost: int) -> None:
    """A loop may be taken out a few places beside, where other residues are as good."""
    query = head + core + tail
    first = core[:at] + core[at + lost :]
    found = anchored(first.encode(), query, "protein")
    paired = [partner for partner in found.partners if partner >= 0]
    assert paired == sorted(set(paired)) and len(found.partners) == len(first)
    assert found.identity >= (0.75 if lost else 1)


def test_a_stream_can_be_let_go_of_before_its_end() -> None:
    stream = anchor.mended(io.StringIO(f">q\n{QUERY}\n"), Mending(QUERY[1:], (-1, *range(21))), "")
    assert stream.read(6) == ">query"
    stream.close()
