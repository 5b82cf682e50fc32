"""HMMER in this process through pyhmmer: jackhmmer -N 1 for proteins, nhmmer and a realignment for RNA.

A database is read in pieces, all queries on each piece, pieces over the threads of an executor; a piece's hits become
rows at once, so that memory does not grow with the database. Knows no cache and no jobs.
"""

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyhmmer
from pyhmmer import easel, plan7

from foldline.errors import SearchError
from foldline.execute import Executor
from foldline.search.recipes import Search
from foldline.search.rows import Alignment, Found, Row, alignment_of
from foldline.search.tools import SearchTimeout

PIECE = 1 << 21  # bytes of a file that are searched at a time
SMALLEST = 1 << 18  # of a piece near the end of a file, where pieces become smaller so that all threads end together
SHARE = 2  # pieces for each thread that what is left is cut into there
HEADWAY = 1 << 13  # bytes that are read at a time to find the beginning of a record
# HMMER reads a piece again for each query, which costs a tenth of a search; above this many, a piece is kept as
# sequences in memory, which costs more once.
READ_AGAIN = 4
_NO_LETTERS = str.maketrans("", "", ".-*")  # hmmalign passes over a stop
# Shorter queries cannot reach the E-values of a recipe in any database, and a profile of one nucleotide has crashed
# nhmmer's code in pyhmmer 0.12.3.
SHORTEST = {"protein": 4, "rna": 8}


class PyHmmer:
    """HMMER's own code as a library. Thread-safe: a pipeline is made per block, profiles are only read."""

    name = "pyhmmer"
    together = True

    def __init__(self, piece: int | None = None) -> None:
        """`piece`: bytes of a file that are searched at a time."""
        self.version = _version()
        self.piece = piece

    def told_before(self, database: str, files: Sequence[Path], search: Search) -> Sequence[str]:
        """See `Tool.told_before`."""
        return ()

    def search(self, queries: Sequence[str], shards: Sequence[Path], search: Search, executor: Executor) -> list[Found]:
        """See `Tool.search`."""
        kind = search.recipe.kind
        asked = [index for index, query in enumerate(queries) if len(query) >= SHORTEST[kind]]
        found = [Found() for _ in queries]
        if asked:
            made = executor.map(partial(_query, kind=kind), [queries[index] for index in asked])
            profiles = [future.result() for future in made]
            for parts in self._parts(profiles, shards, search, executor):
                for index, part in zip(asked, parts, strict=True):
                    found[index].add(part, search)
        return found

    def search_profile(self, stockholm: str, shards: Sequence[Path], search: Search, executor: Executor) -> list[Row]:
        """What an alignment's profile finds (hmmbuild --hand, hmmsearch), in order; rows in the query's columns."""
        found = Found()
        for (part,) in self._parts([_Profile(stockholm)], shards, search, executor):
            found.add(part, search)
        return found.included(search)

    def _parts(
        self, profiles: "Sequence[_Query | _Profile]", shards: Sequence[Path], search: Search, executor: Executor
    ) -> Iterator[list[Found]]:
        """What each profile finds in one piece of the files after the other."""
        pieces = (piece for path in shards for piece in _pieces(path, executor.slots, self.piece))
        pipelines = [_Pipelines(profile, search, kept=len(profiles) <= READ_AGAIN) for profile in profiles]
        with closing(_Memories()) as memories:
            for future in executor.map(partial(_search_piece, pipelines=pipelines, memories=memories), pieces):
                yield future.result()
                if search.deadline is not None and time.monotonic() > search.deadline:
                    raise SearchTimeout(search.recipe.database)

    def align(self, query: str, found: Found, search: Search) -> Alignment:
        """See `Tool.align`."""
        rows = found.included(search)
        if search.recipe.kind == "rna" and rows:
            rows = _realigned(query, rows)
        return alignment_of(query, rows)


@lru_cache
def _version() -> str:
    return version("pyhmmer")


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


class _Piece(NamedTuple):
    """Whole records of a file by their bytes."""

    path: Path
    start: int
    end: int

    def text(self) -> bytes:
        """The records.

        Raises:
            SearchError: the file cannot be read, or is shorter by now.
        """
        with _readable(self.path) as file:
            file.seek(self.start)
            text = file.read(self.end - self.start)
        if len(text) < self.end - self.start:
            raise SearchError(f"the database file {self.path} has become shorter while it was searched: get it again")
        return text


@contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise SearchError(
            f"the database file {path} cannot be read ({error.strerror or error}): check its permissions"
        ) from error


def _pieces(path: Path, slots: int, size: int | None) -> Iterator[_Piece]:
    """A file in pieces of about a size, or of sizes that suit so many searches at a time."""
    with _readable(path) as file:
        length = file.seek(0, os.SEEK_END)
        start = 0
        while start < length:
            left = PIECE if slots == 1 else (length - start) // (SHARE * slots)
            step = size or min(PIECE, max(SMALLEST, left))
            end = _next_record(file, start + step) if start + step < length else length
            yield _Piece(path, start, end)
            start = end


def _next_record(file: BinaryIO, place: int) -> int:
    """Where the next record begins from a place on, or the end: at ">" at the beginning of a line."""
    file.seek(place - 1)
    last = b""
    while more := file.read(HEADWAY):
        at = (last + more).find(b"\n>")
        if at >= 0:
            return file.tell() - len(more) - len(last) + at + 1
        last = more[-1:]
    return file.tell()


def _is_named() -> bool:
    """Whether a file in memory can be opened by a name, as on Linux."""
    try:
        with os.fdopen(os.memfd_create("records"), "wb") as memory, Path(_name_of(memory)).open("rb"):
            return True
    except (AttributeError, OSError):
        return False


def _name_of(memory: BinaryIO) -> str:
    return f"/proc/self/fd/{memory.fileno()}"


_NAMED = _is_named()


class _Memories:
    """Files in memory for texts, one for each thread that searches, used again."""

    def __init__(self) -> None:
        self._idle: list[BinaryIO] = []
        self._closed, self._lock = False, threading.Lock()

    @contextmanager
    def holding(self, text: bytes) -> Iterator[str | BinaryIO]:
        """A text as a file: by name, which the pipeline demands of what it is to read itself, where Linux gives one."""
        if not _NAMED:
            yield io.BytesIO(text)
            return
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = os.fdopen(os.memfd_create("records"), "wb")
        try:
            memory.seek(0)
            memory.write(text)
            memory.truncate()
            memory.flush()
            yield _name_of(memory)
        finally:
            with self._lock:
                if self._closed:
                    memory.close()
                else:
                    self._idle.append(memory)

    def close(self) -> None:
        """Let go of them; those in use follow when they are free."""
        with self._lock:
            self._closed = True
            for memory in self._idle:
                memory.close()


def _opened(source: str | BinaryIO, alphabet: easel.Alphabet) -> easel.SequenceFile:
    return easel.SequenceFile(source, format="fasta", digital=True, alphabet=alphabet)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Pipelines:
    """HMMER's pipelines for a query in a database.

    Those of proteins are made once for each thread and used again where they are `kept`: they do not become smaller
    after a long sequence.
    """

    def __init__(self, query: _Query | _Profile, search: Search, *, kept: bool) -> None:
        self.query, self.search, self.kept = query, search, kept
        self._idle: list[tuple[plan7.Pipeline, plan7.OptimizedProfile]] = []

    def found(self, targets: easel.DigitalSequenceBlock | easel.SequenceFile) -> Found:
        """What the query finds among sequences."""
        if self.search.recipe.kind == "rna":
            assert isinstance(self.query, _Query) and isinstance(targets, easel.DigitalSequenceBlock)
            return _rna(self.query, targets, self.search)
        try:
            pipeline, profile = self._idle.pop()
        except IndexError:
            pipeline, profile = self._made()
        hits = pipeline.search_hmm(profile, targets)
        if self.kept:
            pipeline.clear()
            self._idle.append((pipeline, profile))
        return _protein(self.query, hits)

    def _made(self) -> tuple[plan7.Pipeline, plan7.OptimizedProfile]:
        """A pipeline, and the profile as it takes it and changes it.

        domZ is 1 here: every domain that any domZ would include has its row, with its p-value.
        """
        recipe, alphabet = self.search.recipe, self.query.alphabet
        profile = plan7.Profile(self.query.hmm.M, alphabet)
        profile.configure(self.query.hmm, plan7.Background(alphabet))
        pipeline = plan7.Pipeline(
            alphabet,
            E=recipe.e_value,
            incE=recipe.inc_e,
            domE=max(10.0, recipe.inc_dom_e),
            incdomE=recipe.inc_dom_e,
            F1=recipe.f1,
            F2=recipe.f2,
            F3=recipe.f3,
            Z=self.search.z,
            domZ=1,
        )
        return pipeline, profile.to_optimized()


def _search_piece(piece: _Piece, *, pipelines: Sequence[_Pipelines], memories: _Memories) -> list[Found]:
    """What each query finds in a piece.

    Raises:
        SearchError: its text is no FASTA, a sequence is too long, the name of a hit cannot be read, or its numbers
            overflow.
    """
    text = piece.text()
    alphabet, recipe = pipelines[0].query.alphabet, pipelines[0].search.recipe
    again = recipe.kind == "protein" and len(pipelines) <= READ_AGAIN
    try:
        with memories.holding(text) as source:
            if again and isinstance(source, str):
                found = []
                for one in pipelines:
                    with _opened(source, alphabet) as file:
                        found.append(one.found(file))
                return found
            with _opened(source, alphabet) as file:
                block = file.read_block()
        return [one.found(block) for one in pipelines]
    except (UnicodeDecodeError, OverflowError) as error:
        raise SearchError(
            f"a hit in the database {recipe.database} cannot be read ({_one_line(error)}): save the file as UTF-8, or"
            ' set tool = "hmmer" in [search]'
        ) from error
    except (ValueError, EOFError) as error:
        raise _unreadable(piece, text, alphabet, error) from error


def _unreadable(piece: _Piece, text: bytes, alphabet: easel.Alphabet, error: Exception) -> SearchError:
    """What is wrong with a piece, which the pipeline does not tell when it reads itself."""
    try:
        with closing(_Memories()) as memories, memories.holding(text) as source, _opened(source, alphabet) as file:
            longest = file.read_block().largest()
    except (ValueError, EOFError) as told:
        place = f", counted from byte {piece.start}" if piece.start else ""
        return SearchError(
            f"the database file {piece.path} cannot be read as FASTA ({_one_line(told)}{place}): get it again, or check"
            " it with foldline db check"
        )
    return SearchError(
        f"the sequence {longest.name} of the database file {piece.path} with its {len(longest)} letters cannot be"
        f" searched ({_one_line(error)}): take it out of the file"
    )


def _protein(query: _Query | _Profile, hits: plan7.TopHits) -> Found:
    """The rows of hits."""
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
    # The search sets the length of a window anew in the profile that it is given: one for each thread.
    hits = pipeline.search_hmm(query.hmm.copy(), block)
    included = [hit for hit in hits if hit.included]
    if not included:
        return Found()
    msa = hits.to_msa(query.alphabet)
    assert isinstance(msa, easel.TextMSA)
    rows = []
    for hit, sequence, text in zip(included, msa.sequences, msa.alignment, strict=True):
        ends = hit.best_domain.alignment
        backward = ends.target_from > ends.target_to
        piece = text.translate(_NO_LETTERS).upper()
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
