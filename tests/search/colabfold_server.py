"""A ColabFold server for the tests, in a thread: its protocol, and every way of failing that a test asks for."""

import io
import json
import tarfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

UNIREF, ENVIRONMENT, PAIRED = "uniref.a3m", "bfd.mgnify30.metaeuk30.smag30.a3m", "pair.a3m"


def rows(sequence: str, kind: str, count: int) -> list[tuple[str, str]]:
    """Rows in the columns of a sequence; every third begins with an insertion."""
    found = []
    for number in range(count):
        changed = "".join(
            b if b != a and at % 7 == number % 7 else a
            for at, (a, b) in enumerate(zip(sequence, sequence[::-1], strict=True))
        )
        found.append(
            (f"{kind}{number:03}\t{200 - number}\t0.{60 - number}", ("ik" if number % 3 == 2 else "") + changed)
        )
    return found


def a3m(queries: list[tuple[str, str]], kind: str, count: int) -> str:
    """The alignments of queries in one file: numbers as first headers, NUL between them."""
    blocks = []
    for number, sequence in queries:
        entries = [(number, sequence), *rows(sequence, kind, count)]
        blocks.append("".join(f">{header}\n{row}\n" for header, row in entries))
    return "\0".join(blocks) + "\0"


def pairs(queries: list[tuple[str, str]], count: int) -> str:
    """Paired rows: the last query has no partner in every fourth of them."""
    blocks = []
    for index, (number, sequence) in enumerate(queries):
        text = f">{number}\n{sequence}\n"
        for at, (_, row) in enumerate(rows(sequence, "", count)):
            lone = at % 4 == 3 and index == len(queries) - 1
            text += ">DUMMY\n" + "-" * len(sequence) if lone else f">UniRef100_A0A_{index}{at}\n{row}"
            text += "\n"
        blocks.append(text)
    return "\0".join(blocks)


def packed(files: dict[str, str]) -> bytes:
    """A tar.gz of files, with one that nobody asked for."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, text in {"msa.sh": "#!/bin/sh\n", **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return target.getvalue()


@dataclass
class Fake:
    """What the server has been asked and what it does.

    `script` holds, per method and first word of a path, answers that come before the right ones: a status code, the
    state of a ticket, bytes of a body, "hang" or "drop".
    """

    url: str = ""
    script: dict[str, list[object]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    sent: list[tuple[str, str, list[str]]] = field(default_factory=list)  # path, mode, sequences
    tickets: dict[str, tuple[str, list[tuple[str, str]]]] = field(default_factory=dict)
    result: bytes | None = None  # instead of the right one
    unsearchable: set[str] = field(default_factory=set)  # sequences whose tickets end in errors
    free: threading.Event = field(default_factory=threading.Event)  # lets those that hang go

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        """Answer one request."""
        path = handler.path.strip("/")
        kind = path.split("/")[0] if path.split("/")[0] != "ticket" else f"{method} ticket"
        self.asked.append((method, path))
        self.agents.add(handler.headers["User-Agent"])
        form = urllib.parse.parse_qs(handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode())
        due = self.script.get(kind, [])
        step = due.pop(0) if due else None
        if step == "hang":
            self.free.wait(10)
            return
        if step == "drop":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"{")
            return
        if isinstance(step, tuple):
            self._send(handler, step[0], b"", step[1])
        elif isinstance(step, int):
            self._send(handler, step, b"so it is")
        elif isinstance(step, bytes):
            self._send(handler, 200, step)
        elif kind == "result":
            self._send(handler, 200, self._result(path.split("/")[-1]))
        else:
            self._send(handler, 200, json.dumps(self._ticket(method, path, form, step)).encode())

    def _ticket(self, method: str, path: str, form: dict[str, list[str]], step: object) -> dict[str, object]:
        if method == "GET":
            number = path.split("/")[1]
            bad = number in self.tickets and self.unsearchable & {text for _, text in self.tickets[number][1]}
            return {"id": number, "status": step or ("ERROR" if bad else "COMPLETE")}
        lines = form["q"][0].splitlines()
        queries = [(name[1:], text) for name, text in zip(lines[::2], lines[1::2], strict=True)]
        mode = form["mode"][0]
        self.sent.append((path, mode, [text for _, text in queries]))
        number = f"t-{len(self.sent)}_x"
        self.tickets[number] = mode, queries
        return {"id": number, "status": step or "PENDING"}

    def _result(self, number: str) -> bytes:
        if self.result is not None:
            return self.result
        mode, queries = self.tickets[number]
        if mode.startswith("pair"):
            return packed({PAIRED: pairs(queries, 9)})
        return packed({UNIREF: a3m(queries, "UniRef100_B", 6), ENVIRONMENT: a3m(queries, "MGYP", 9)})

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        handler.send_response(code)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def running() -> Iterator[Fake]:
    """A server on a port of this machine."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.answer(self, "GET")

        def do_POST(self) -> None:
            fake.answer(self, "POST")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        fake.free.set()
        server.shutdown()
        thread.join()
        server.server_close()
