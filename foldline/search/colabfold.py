"""A client of the ColabFold MSA server: tickets, what they bring, and all that can go wrong with them.

Requests are repeated by urllib3 within bounds; one ticket is open at a time. Knows no cache and no jobs.
"""

import io
import lzma
import random
import re
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from foldline import __version__
from foldline.errors import InputError, SearchError
from foldline.execute import go_on
from foldline.search.rows import Alignment, merged, read_a3m

if TYPE_CHECKING:
    import requests

MODE, PAIR_MODE = "env", "pairgreedy"
UNIREF, ENVIRONMENT, PAIRED = "uniref.a3m", "bfd.mgnify30.metaeuk30.smag30.a3m", "pair.a3m"
FIRST = 101  # the number of a ticket's first sequence
MOST_BYTES = 1 << 31  # of an answer, packed or unpacked
AGENT = f"foldline/{__version__}"
REMEDY = 'run again later (what was found is kept), or search databases of your own with tool = "mmseqs"'
NAMED, MOST = 24, 3  # letters of a sequence, and sequences, that an error shows
_STANDARD = frozenset("ACDEFGHIKLMNPQRSTVWY")
_ROW = re.compile(r"[A-Za-z*-]+")
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Pace:
    """How often and how long a server is asked; seconds, where nothing else is said."""

    poll: float = 5.0  # between two questions for a ticket; grows to `poll_most`
    poll_most: float = 20.0
    minutes: float = 60.0  # for a ticket in all
    tickets: int = 6  # submissions of a ticket that the server limits or loses
    busy: float = 10.0  # before such a submission
    connect: float = 10.0
    read: float = 60.0
    repeats: int = 5  # of a request that is refused for now (429) or fails in the server (5xx)
    unreachable: int = 2  # of one that is not answered
    backoff: float = 2.0  # doubled with each; at most `backoff_most`, whatever the server asks for
    backoff_most: float = 60.0


class Unsearchable(SearchError):
    """A ticket ended in an error: of each of its sequences alone, or of all in one complex (`together`)."""

    code = "unsearchable"

    def __init__(self, server: str, sequences: Sequence[str], *, together: bool = False) -> None:
        self.sequences, self.together = tuple(sequences), together
        shown = [f"{one[:NAMED]}{'...' * (len(one) > NAMED)} ({len(one)} residues)" for one in sequences[:MOST]]
        shown += [f"{len(sequences) - MOST} more"] * (len(sequences) > MOST)
        super().__init__(
            f"the ColabFold server {server} could not {'pair' if together else 'search for'} {', '.join(shown)}: check"
            f" the letters, give alignments with the job (unpairedMsa, pairedMsa), or {REMEDY}"
        )

    def hits(self, sequences: Iterable[str]) -> bool:
        """Whether a job with these sequences lacks alignments because of this."""
        return set(sequences) == set(self.sequences) if self.together else not set(sequences).isdisjoint(self.sequences)


class Server:
    """A server at a URL. Thread-safe."""

    def __init__(self, url: str, pace: Pace | None = None, check: Callable[[], None] = go_on) -> None:
        """`check` is called now and then while waiting, and ends it by raising."""
        self.url, self.pace, self.check = url.rstrip("/"), pace or Pace(), check
        parts = urlsplit(self.url)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # without a password

    def unpaired(self, sequences: Sequence[str]) -> list[Alignment]:
        """The alignment of each sequence: rows from UniRef30, then those from the environmental databases.

        Raises:
            Unsearchable: the server could not search for one of them, or for none.
            SearchError: the server refuses, fails, is not there, or answers with what cannot be used.
        """
        files = self._results("ticket/msa", sequences, MODE, (UNIREF, ENVIRONMENT))
        parts = [self._alignments(files[name], name, sequences) for name in (UNIREF, ENVIRONMENT)]
        return [merged(of_one, deduplicate=True) for of_one in zip(*parts, strict=True)]

    def paired(self, sequences: Sequence[str], tag: str) -> list[Alignment]:
        """Alignments of sequences of one complex whose rows of equal species belong together.

        The server pairs row by row; here a row's header says UniRef100_NAME_SPECIES/ with a species made of the row's
        number and `tag`, which tells sets of sequences apart. Rows of gaps alone are left out.

        Raises:
            SearchError: see `unpaired`.
        """
        files = self._results("ticket/pair", sequences, PAIR_MODE, (PAIRED,))
        found = self._alignments(files[PAIRED], PAIRED, sequences)
        if len({len(one.rows) for one in found}) > 1:
            raise self._unusable(f"{PAIRED} with unequal numbers of rows")
        return [_with_species(one, tag) for one in found]

    def _results(self, path: str, sequences: Sequence[str], mode: str, names: tuple[str, ...]) -> dict[str, str]:
        query = "".join(f">{FIRST + number}\n{sequence}\n" for number, sequence in enumerate(sequences))
        while not _ONE_AT_A_TIME.acquire(timeout=0.5):
            self.check()
        try:
            packed = _Ticket(self).packed(path, query, mode)
        except _Failed as error:
            raise Unsearchable(self.name, sequences) from error
        finally:
            _ONE_AT_A_TIME.release()
        return self._unpacked(packed, names)

    def pause(self, seconds: float, go_on: Callable[[], None] | None = None) -> None:
        """Wait about so long, in pieces; `go_on` is called between them, by default the server's check."""
        go_on = go_on or self.check
        end = time.monotonic() + seconds * random.uniform(1.0, 1.2)
        while (left := end - time.monotonic()) > 0:
            go_on()
            time.sleep(min(left, 0.5))
        go_on()

    def _unpacked(self, packed: bytes, names: tuple[str, ...]) -> dict[str, str]:
        """Files of a tar archive; others in it are not touched."""
        found: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:*") as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    if name not in names or not member.isfile():
                        continue
                    if member.size > MOST_BYTES:
                        raise self._unusable(f"{name} of {member.size / 1e9:.0f} GB")
                    file = tar.extractfile(member)
                    assert file is not None
                    found[name] = file.read().decode("utf-8", errors="replace")
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self._unusable("what is no tar archive") from error
        missing = [name for name in names if name not in found]
        if missing:
            raise self._unusable(f"an archive without {' and '.join(missing)}")
        return found

    def _alignments(self, text: str, name: str, sequences: Sequence[str]) -> list[Alignment]:
        """The alignments of a file, which are separated by NUL and begin with a number, in order of the sequences."""
        found: dict[str, Alignment] = {}
        for block in text.split("\0"):
            if not block.strip():
                continue
            try:
                one = read_a3m(block, name)
            except InputError as error:
                raise self._unusable(str(error)) from error
            if not one.rows or not all(map(_ROW.fullmatch, one.rows)):
                raise self._unusable(f"{name} that is no alignment")
            found[one.headers[0].split()[0] if one.headers[0].strip() else ""] = one
        result = []
        for number, sequence in enumerate(sequences, start=FIRST):
            one = found.get(str(number))
            if one is None:
                raise self._unusable(f"{name} without sequence {number - FIRST + 1}")
            if not _same(sequence, one.query):
                raise self._unusable(f"{name} whose first row is not sequence {number - FIRST + 1}")
            result.append(Alignment(("query", *one.headers[1:]), (sequence, *one.rows[1:])))
        return result

    def _unusable(self, what: str) -> SearchError:
        return SearchError(
            f"the ColabFold server {self.name} answers with {what}: check server in [search], or {REMEDY}"
        )


class _Failed(Exception):
    """A ticket ended in an error."""


class _Ticket:
    """A ticket from its submission to its result, with the connection and the time that it may take."""

    def __init__(self, server: Server) -> None:
        self.server, self.pace, self.name = server, server.pace, f"the ColabFold server {server.name}"
        self.deadline = time.monotonic() + 60 * self.pace.minutes

    def packed(self, path: str, query: str, mode: str) -> bytes:
        """What the server packs together when the ticket is complete."""
        with self._session() as session:
            for left in range(self.pace.tickets, 0, -1):
                reply = self._reply(session, "POST", path, {"q": query, "mode": mode})
                number = str(reply.get("id", ""))
                reply = self._waited_for(session, number, reply)
                if reply["status"] == "COMPLETE":
                    return self._body(session, "GET", f"result/download/{number}")
                if left > 1:
                    self._pause(self.pace.busy)
        if reply["status"] == "RATELIMIT":
            raise SearchError(f"{self.name} takes no more searches from here for now: {REMEDY}")
        raise SearchError(f"{self.name} has lost the search {self.pace.tickets} times: {REMEDY}")

    def _waited_for(self, session: "requests.Session", number: str, reply: dict[str, Any]) -> dict[str, Any]:
        """The reply for a ticket that is complete, limited (RATELIMIT) or lost (UNKNOWN)."""
        wait = self.pace.poll
        while True:
            status = reply["status"]
            if status == "ERROR":
                raise _Failed
            if status == "MAINTENANCE":
                raise SearchError(f"{self.name} is under maintenance: {REMEDY}")
            if status in ("RATELIMIT", "UNKNOWN"):
                return reply
            if not re.fullmatch(r"[\w-]+", number):
                raise self.server._unusable("a ticket without a number")
            if status == "COMPLETE":
                return reply
            if status not in ("PENDING", "RUNNING"):
                raise self.server._unusable(f"the state {str(status)[:40]!r}, which is not known")
            self._pause(wait)
            wait = min(1.2 * wait, self.pace.poll_most)
            reply = self._reply(session, "GET", f"ticket/{number}")

    def _session(self) -> "requests.Session":
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        pace = self.pace
        retry = Retry(
            total=None,
            connect=pace.unreachable,
            read=pace.unreachable,
            other=pace.unreachable,
            status=pace.repeats,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            backoff_factor=pace.backoff,
            backoff_max=pace.backoff_most,
            backoff_jitter=pace.backoff / 4,
            retry_after_max=int(pace.backoff_most),
            raise_on_status=False,
        )
        session = requests.Session()
        session.headers["User-Agent"] = AGENT
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        return session

    def _reply(
        self, session: "requests.Session", method: str, path: str, form: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer to a question for a ticket."""
        import json

        body = self._body(session, method, path, form)
        try:
            reply = json.loads(body)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or not isinstance(reply.get("status"), str):
            raise self.server._unusable(f"what is no ticket ({_quoted(body)})")
        return reply

    def _body(self, session: "requests.Session", method: str, path: str, form: dict[str, str] | None = None) -> bytes:
        """An answer's content, within the bounds of time and size."""
        import requests

        pieces, size = [], 0
        try:
            with session.request(
                method,
                f"{self.server.url}/{path}",
                data=form,
                timeout=(self.pace.connect, self.pace.read),
                allow_redirects=False,
                stream=True,
            ) as response:
                for piece in response.iter_content(1 << 20):
                    pieces.append(piece)
                    size += len(piece)
                    if size > MOST_BYTES:
                        raise self.server._unusable(f"more than {MOST_BYTES / 1e9:.0f} GB")
                    self._go_on()
        except requests.RequestException as error:
            reason = _one_line(error)
            raise SearchError(
                f"{self.name} gives no answer ({reason}): check the network and server in [search], or {REMEDY}"
            ) from error
        body = b"".join(pieces)
        if not response.ok or response.is_redirect:
            raise self._refused(response, body)
        return body

    def _refused(self, response: "requests.Response", body: bytes) -> SearchError:
        code = response.status_code
        if code == 429:
            return SearchError(f"{self.name} refuses more requests from here for now (429): {REMEDY}")
        if response.is_redirect:
            place = response.headers.get("Location", "")[:200]
            return SearchError(f"{self.name} has moved to {place}: give its new address as server in [search]")
        if code >= 500:
            return SearchError(f"{self.name} fails ({code}; it said: {_quoted(body)}): {REMEDY}")
        return SearchError(
            f"{self.name} refuses the request ({code}; it said: {_quoted(body)}): check server in [search], or {REMEDY}"
        )

    def _pause(self, seconds: float) -> None:
        """Wait about so long, in pieces between which the run may end."""
        self.server.pause(seconds, self._go_on)

    def _go_on(self) -> None:
        self.server.check()
        if time.monotonic() > self.deadline:
            raise SearchError(
                f"{self.name} has no result after {self.pace.minutes:g} minutes: raise server_minutes in [search], or"
                f" {REMEDY}"
            )


def _with_species(alignment: Alignment, tag: str) -> Alignment:
    kept = [number for number, row in enumerate(alignment.rows) if number and row.strip("-")]
    names = [_accession(alignment.headers[number]) for number in kept]
    headers = [f"UniRef100_{name}_{number}x{tag}/" for name, number in zip(names, kept, strict=True)]
    return Alignment(("query", *headers), (alignment.query, *(alignment.rows[number] for number in kept)))


def _accession(header: str) -> str:
    word = (header.split() or ["row"])[0].removeprefix("UniRef100_")
    return re.sub(r"[^A-Za-z0-9.-]", "-", word)


def _same(sequence: str, row: str) -> bool:
    """Whether a row is the sequence, but for letters that mmseqs does not know."""
    pairs = zip(sequence, row, strict=False)
    return len(sequence) == len(row) and all(a == b or a not in _STANDARD for a, b in pairs)


def _quoted(body: bytes) -> str:
    text = " ".join(body[:400].decode("utf-8", errors="replace").split())
    return repr(text[:120]) if text else "nothing"


def _one_line(error: BaseException) -> str:
    """The innermost reason, without the words of urllib3 about its connection."""
    inner: object = error
    if error.args and isinstance(error.args[0], Exception):
        inner = getattr(error.args[0], "reason", None) or (error.args[0].args or (error,))[0]
    text = re.sub(r"^HTTPS?Connection(Pool)?\([^)]*\): ", "", " ".join(str(inner).split()))
    return text[:200] or type(error).__name__
