"""Rows in order, limits, merging of databases: AlphaFold 3's rules on small examples."""

from hypothesis import given
from hypothesis import strategies as st

from foldline.search.recipes import INC_DOM_E, UNIREF90, Recipe, Search
from foldline.search.rows import Alignment, Found, Row, alignment_of, joined, merged, parse_a3m

SMALL = Recipe("uniref90", "protein", "f", max_rows=4)


def row(score: float, name: str = "n", p_value: float = 0.0, start: int = 1) -> Row:
    return Row(0.0, -score, name, False, start, f"{name}/{start}", "ACD", p_value)


def test_best_score_then_name_then_place() -> None:
    rows = [row(9, "b"), row(9, "c", start=1), row(9, "c", start=5), row(3, "a")]
    search = Search(UNIREF90, 10)
    parts = [Found([rows[1], rows[2]], 1), Found([rows[0], rows[3]], 2)]
    assert joined(parts, search).included(search) == rows


def test_domains_count_the_sequences_that_were_found() -> None:
    weak, strong = row(5, "weak", p_value=INC_DOM_E / 3), row(9, "strong", p_value=1e-9)
    found = Found([strong, weak], reported=3)
    assert found.included(Search(UNIREF90, 1000)) == [strong, weak]
    found.reported = 4
    assert found.included(Search(UNIREF90, 1000)) == [strong]
    assert found.included(Search(UNIREF90, 2.0, z_given=True)) == [strong, weak]
    assert found.included(Search(UNIREF90, 1000.0, z_given=True)) == [strong]


SCORES = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.0, 1e-4, 3e-4])), max_size=60)


@given(st.lists(SCORES, max_size=6))
def test_what_is_dropped_on_the_way_is_never_missed(blocks: list[list[tuple[int, float]]]) -> None:
    """Held to a few rows after every block, the result is that of all rows at once."""
    search = Search(SMALL, z=200.0)
    number = 0
    parts = []
    for block in blocks:
        rows = []
        for score, p_value in block:
            number += 1
            rows.append(row(score, f"n{number:04}", p_value))
        parts.append(Found(sorted(rows, key=lambda one: one[:5]), len(rows)))
    everything = Found(sorted((one for part in parts for one in part.rows), key=lambda one: one[:5]), number)
    assert joined(parts, search).included(search) == everything.included(search)


def test_memory_is_bounded() -> None:
    search = Search(SMALL, z=200.0)
    found = Found()
    for number in range(1000):
        found.add(Found([row(number % 7, f"n{number:04}")], 1), search)
        assert len(found.rows) <= 2 * SMALL.max_rows
    assert found.reported == 1000


def test_unpaired_rows_are_the_first_of_equal_ones() -> None:
    one = Alignment(("query", "a", "b"), ("ACD", "A-D", "AaC-"))
    two = Alignment(("query", "c", "d", "e"), ("ACD", "ggA-D", "AC-", "-CD"))
    whole = merged([one, two], deduplicate=True)
    assert whole.headers == ("query", "a", "b", "e")
    assert whole.rows == ("ACD", "A-D", "AaC-", "-CD")


def test_paired_rows_are_all_kept() -> None:
    one = Alignment(("query", "a", "b"), ("ACD", "ACD", "ACD"))
    assert merged([one], deduplicate=False) == one


def test_a3m_round_trip() -> None:
    alignment = Alignment(("query", "a/1-2 [subseq from] d\u2028e"), ("ACD", "Aa-D"))
    assert parse_a3m(alignment.a3m()) == alignment
    assert alignment_of("ACD").a3m() == ">query\nACD\n"
