"""Any a3m against a parser that goes letter by letter."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foldline.chem.residues import MSA_RESTYPE
from foldline.features.a3m import A3mSource, count_deletions, encode, read_rows
from foldline.inputs.job import Text

LENGTH = 7
column = st.sampled_from("ACDEFGHIKLMNPQRSTVWYX-")
insertion = st.text("acdefghiklmnpqrstvwy", max_size=3)
row = st.lists(st.tuples(insertion, column), min_size=LENGTH, max_size=LENGTH)
line_end = st.sampled_from(["\n", "\r\n", "\n\n"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(row, insertion), min_size=1, max_size=8), line_end, st.integers(1, 12))
def test_rows_and_deletions(rows: list[tuple[list[tuple[str, str]], str]], end: str, wrap: int) -> None:
    query = "MKVLAGE"
    texts = ["".join(i + c for i, c in pairs) + tail for pairs, tail in rows]
    wrapped = [end.join(text[at : at + wrap] for at in range(0, len(text), wrap)) for text in texts]
    text = f">q{end}{query}{end}" + "".join(f">row {n}{end}{one}{end}" for n, one in enumerate(wrapped))
    blocks = list(read_rows(A3mSource(Text(text), "it", "protein", query)))
    found = [one for block in blocks for one in block.rows]
    codes, _ = encode([one for block in blocks for one in block.matches], "protein")
    assert found == [query.encode(), *(one.encode() for one in texts)]
    np.testing.assert_array_equal(count_deletions(found, LENGTH)[1:], [[len(i) for i, _ in pairs] for pairs, _ in rows])
    expected = [[MSA_RESTYPE["protein"][ord(c)] for _, c in pairs] for pairs, _ in rows]
    np.testing.assert_array_equal(codes[1:], expected)
