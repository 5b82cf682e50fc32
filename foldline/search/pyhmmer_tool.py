"""HMMER in this process through pyhmmer: jackhmmer -N 1 for proteins, nhmmer and a realignment for RNA.

A database is streamed in blocks, all queries on each block, blocks over the threads of an executor; a block's hits
become rows at once, so that memory does not grow with the database. Knows no cache and no jobs.
"""

import io
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import pyhmmer
from pyhmmer import easel, plan7

from foldline.errors import SearchError
from foldline.execute import Executor
from foldline.search.recipes import Search
from foldline.search.rows import Alignment, Found, Row, alignment_of
from foldline.search.tools import SearchTimeout

Part = TypeVar("Part")
BLOCK_RESIDUES = 1 << 22
# Shorter queries cannot reach the E-values of a recipe in any database, and a profile of one nucleotide has crashed
# nhmmer's code in pyhmmer 0.12.3.
SHORTEST = {"protein": 4, "rna": 8}


class PyHmmer:
    """HMMER's own code as a library. Thread-safe: a pipeline is made per block, profiles are only read."""

    name = "pyhmmer"
    together = True

    def __init__(self, block_residues: int = BLOCK_RESIDUES) -> None:
        self.version = version("pyhmmer")
        self.block_residues = block_residues

    def told_before(self, database: str, files: Sequence[Path], search: Search) -> Sequence[str]:
        """See `Tool.told_before`."""
        return ()

    def search(self, queries: Sequence[str], shards: Sequence[Path], search: Search, executor: Executor) -> list[Found]:
        """See `Tool.search`."""
        kind = search.recipe.kind
        prepared = [None if len(query) < SHORTEST[kind] else _query(query, kind) for query in queries]
        found = [Found() for _ in queries]
        work = (
            (index, query, block)
            for shard in shards
            for block in _blocks(shard, kind, self.block_residues)
            for index, query in enumerate(prepared)
            if query is not None
        )
        for future in executor.map(partial(_search_block, search=search), work):
            index, part = _result(future, search)
            found[index].add(part, search)
            if search.deadline is not None and time.monotonic() > search.deadline:
                raise SearchTimeout(search.recipe.database)
        return found

    def search_profile(self, stockholm: str, shards: Sequence[Path], search: Search, executor: Executor) -> list[Row]:
        """What an alignment's profile finds (hmmbuild --hand, hmmsearch), in order; rows in the query's columns."""
        profile, found = _Profile(stockholm), Found()
        work = (block for shard in shards for block in _blocks(shard, "protein", self.block_residues))
        for future in executor.map(partial(_protein, profile, search=search), work):
            found.add(_result(future, search), search)
        return found.included(search)

    def align(self, query: str, found: Found, search: Search) -> Alignment:
        """See `Tool.align`."""
        rows = found.included(search)
        if search.recipe.kind == "rna" and rows:
            rows = _realigned(query, rows)
        return alignment_of(query, rows)


class _Profile:
    """The profile of a protein alignment in Stockholm format; its columns are the reference's (hmmbuild --hand)."""

    sequence = None

    def __init__(self, stockholm: str) -> None:
        self.alphabet = _alphabet("protein")
        with easel.MSAFile(
            io.BytesIO(stockholm.encode()), format="stockholm", digital=True, alphabet=self.alphabet
        ) as file:
            msa = file.read()
        assert isinstance(msa, easel.DigitalMSA)
        builder = plan7.Builder(self.alphabet, architecture="hand")
        msa.name = msa.name or "query"
        self.hmm = _as_written(builder.build_msa(msa, plan7.Background(self.alphabet))[0])


def _as_written(hmm: plan7.HMM) -> plan7.HMM:
    """The profile as the programs hand it on in a file: with five decimals, which decide some weak hits."""
    file = io.BytesIO()
    hmm.write(file)
    file.seek(0)
    with plan7.HMMFile(file) as profiles:
        read = profiles.read()
    assert read is not None
    return read


class _Query:
    """A query's sequence and profile."""

    def __init__(self, letters: str, kind: str) -> None:
        self.alphabet = _alphabet(kind)
        self.letters = letters
        self.sequence = easel.TextSequence(name="query", sequence=letters).digitize(self.alphabet)
        builder = plan7.Builder(self.alphabet)
        self.hmm = builder.build(self.sequence, plan7.Background(self.alphabet))[0]


@lru_cache(maxsize=64)
def _query(letters: str, kind: str) -> _Query:
    """A query as it was made for the shard before."""
    return _Query(letters, kind)


def _alphabet(kind: str) -> easel.Alphabet:
    return easel.Alphabet.amino() if kind == "protein" else easel.Alphabet.rna()


def _blocks(path: Path, kind: str, residues: int) -> Iterator[easel.DigitalSequenceBlock]:
    try:
        with easel.SequenceFile(path, format="fasta", digital=True, alphabet=_alphabet(kind)) as file:
            while block := file.read_block(residues=residues):
                yield block
    except (ValueError, EOFError) as error:
        raise SearchError(
            f"the database file {path} cannot be read as FASTA ({_one_line(error)}): get it again, or check it with"
            " foldline db check"
        ) from error


def _result(future: Future[Part], search: Search) -> Part:
    """What a block gave.

    Raises:
        SearchError: the name of a hit cannot be read, or its numbers overflow.
    """
    try:
        return future.result()
    except (UnicodeDecodeError, OverflowError) as error:
        raise SearchError(
            f"a hit in the database {search.recipe.database} cannot be read ({_one_line(error)}): save the file as"
            ' UTF-8, or set tool = "hmmer" in [search]'
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _search_block(item: tuple[int, _Query, easel.DigitalSequenceBlock], *, search: Search) -> tuple[int, Found]:
    index, query, block = item
    return index, (_protein if search.recipe.kind == "protein" else _rna)(query, block, search)


def _protein(query: _Query | _Profile, block: easel.DigitalSequenceBlock, search: Search) -> Found:
    """Hits of a block. domZ is 1 here: every domain that any domZ would include has its row, with its p-value."""
    recipe = search.recipe
    pipeline = plan7.Pipeline(
        query.alphabet,
        E=recipe.e_value,
        incE=recipe.inc_e,
        domE=max(10.0, recipe.inc_dom_e),
        incdomE=recipe.inc_dom_e,
        F1=recipe.f1,
        F2=recipe.f2,
        F3=recipe.f3,
        Z=search.z,
        domZ=1,
    )
    hits = pipeline.search_hmm(query.hmm, block)
    reported = sum(hit.reported for hit in hits)
    domains = [(hit, domain) for hit in hits if hit.included for domain in hit.domains if domain.included]
    if not domains:
        return Found([], reported)
    first: list[easel.Sequence] = [] if query.sequence is None else [query.sequence]
    traces = [plan7.Trace.from_sequence(sequence) for sequence in first]
    msa = hits.to_msa(query.alphabet, sequences=first, traces=traces, all_consensus_cols=True)
    assert isinstance(msa, easel.TextMSA)
    rows = []
    texts = list(zip(msa.sequences, msa.alignment, strict=True))[len(first) :]
    for (hit, domain), (sequence, text) in zip(domains, texts, strict=True):
        start = domain.alignment.target_from
        header = _header(sequence.name, sequence.description)
        a3m = text.replace(".", "")
        rows.append(Row(0.0, -hit.score, hit.name, False, start, header, a3m, domain.pvalue, hit.evalue))
    return Found(rows, reported)


def _rna(query: _Query, block: easel.DigitalSequenceBlock, search: Search) -> Found:
    """Hits of a block on both strands as ungapped pieces, to be aligned to the query once the best are known."""
    recipe = search.recipe
    pipeline = plan7.LongTargetsPipeline(
        query.alphabet,
        E=recipe.e_value,
        incE=recipe.inc_e,
        F1=recipe.f1,
        F2=recipe.f2,
        F3=recipe.f3_of(query.letters),
        Z=search.z,
    )
    hits = pipeline.search_hmm(query.hmm, block)
    included = [hit for hit in hits if hit.included]
    if not included:
        return Found()
    msa = hits.to_msa(query.alphabet)
    assert isinstance(msa, easel.TextMSA)
    rows = []
    for hit, sequence, text in zip(included, msa.sequences, msa.alignment, strict=True):
        ends = hit.best_domain.alignment
        backward = ends.target_from > ends.target_to
        piece = text.replace(".", "").replace("-", "").upper()
        header = _header(sequence.name, sequence.description)
        rows.append(Row(0.0, -hit.score, hit.name, backward, ends.target_from, header, piece, 0.0, hit.evalue))
    return Found(rows, len(rows))


def _header(name: str, description: str | None) -> str:
    return f"{name} {description}" if description else name


def _realigned(query: str, rows: list[Row]) -> list[Row]:
    """Pieces aligned to the query's profile, as hmmbuild and hmmalign do (AF3 tools/nhmmer.py:196-220)."""
    alphabet: easel.Alphabet = easel.Alphabet.rna()
    sequence = easel.TextSequence(name="query", sequence=query)
    msa = easel.TextMSA(name="query", sequences=[sequence]).digitize(alphabet)
    hmm = _as_written(plan7.Builder(alphabet).build_msa(msa, plan7.Background(alphabet))[0])
    pieces: list[easel.DigitalSequence] = [
        easel.TextSequence(name=f"r{i}", sequence=row.text).digitize(alphabet) for i, row in enumerate(rows)
    ]
    aligned = pyhmmer.hmmalign(hmm, pieces, all_consensus_cols=True)
    assert isinstance(aligned, easel.TextMSA)
    return [row._replace(text=text.replace(".", "")) for row, text in zip(rows, aligned.alignment, strict=True)]
