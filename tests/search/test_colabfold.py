"""The client of the ColabFold server: its protocol, and every failure told in one sentence with a remedy."""

import gzip
import socket
from collections.abc import Iterator
from dataclasses import replace

import colabfold_server
import pytest
from colabfold_server import ENVIRONMENT, PAIRED, UNIREF, Fake, a3m, packed, pairs
from made_databases import sequence

from foldline.errors import SearchError, Stopped
from foldline.features.pairing import pair_rows, species_of
from foldline.search.colabfold import Pace, Server
from foldline.search.rows import Alignment

QUICK = Pace(poll=0, busy=0, backoff=0, backoff_most=0, connect=2, read=2, repeats=2, unreachable=1, tickets=3)
ONE, OTHER = sequence("protein", 60, 1), sequence("protein", 40, 2)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with colabfold_server.running() as one:
        yield one


def test_unpaired_alignments(fake: Fake) -> None:
    fake.script = {"POST ticket": ["RATELIMIT"], "GET ticket": ["PENDING", "RUNNING"]}
    first, second = Server(fake.url + "/", QUICK).unpaired([ONE, OTHER])
    assert fake.sent == [("ticket/msa", "env", [ONE, OTHER])] * 2  # limited once
    assert [path for _, path in fake.asked[-2:]] == ["ticket/t-2_x", "result/download/t-2_x"]
    assert [agent.split("/")[0] for agent in fake.agents] == ["foldline"]
    assert (first.headers[0], first.query, second.query) == ("query", ONE, OTHER)
    assert first.headers[1].split("\t")[0] == "UniRef100_B000"
    # of the environment's rows, six are those of UniRef30 and two are equal to each other but for insertions
    for found in (first, second):
        assert [header[:4] for header in found.headers[1:]] == ["UniR"] * 6 + ["MGYP"]
        assert len(set(found.rows)) == 8


def test_rows_of_both_files_are_taken(fake: Fake) -> None:
    other = ONE[::-1]
    files = {UNIREF: f">101\n{ONE}\n>UniRef100_A\n{other}\n\0", ENVIRONMENT: f">101\n{ONE}\n>MGYP1\nkk{'-' * 60}\n\0"}
    fake.result = packed(files)
    (found,) = Server(fake.url, QUICK).unpaired([ONE])
    assert found == Alignment(("query", "UniRef100_A", "MGYP1"), (ONE, other, "kk" + "-" * 60))


def test_paired_rows_meet_in_the_featuriser(fake: Fake) -> None:
    found = Server(fake.url, QUICK).paired([ONE, OTHER], "abc")
    assert fake.sent == [("ticket/pair", "pairgreedy", [ONE, OTHER])]
    species = [species_of([header.encode() for header in one.headers]) for one in found]
    rows = pair_rows(species, limit=100)
    assert rows.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3], [5, 4], [6, 5], [7, 6], [9, 7]]
    assert [len(one.rows) for one in found] == [10, 8]  # two rows of gaps are left out
    assert found[0].headers[1] == "UniRef100_A0A-00_1xabc/"


def test_letters_that_mmseqs_does_not_know(fake: Fake) -> None:
    odd = ONE[:5] + "UXOB" + ONE[9:]
    text = f">101\n{ONE[:5]}XXXX{ONE[9:]}\n>r\n{ONE}\n\0"
    fake.result = packed({UNIREF: text, ENVIRONMENT: text})
    (found,) = Server(fake.url, QUICK).unpaired([odd])
    assert found.rows == (odd, ONE)


def test_what_fails_for_a_while_is_repeated(fake: Fake) -> None:
    fake.script = {
        "POST ticket": [429, 503],
        "GET ticket": [500, "RUNNING", "UNKNOWN"],  # lost once: sent again
        "result": [(429, {"Retry-After": "3600"})],  # waited for no longer than the pace says
    }
    (found,) = Server(fake.url, QUICK).unpaired([ONE])
    assert found.query == ONE
    assert len(fake.sent) == 2
    assert not any(fake.script.values())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"POST ticket": [429] * 3}, r"refuses more requests from here for now \(429\): run again later"),
        ({"POST ticket": [500] * 3}, r"fails \(500; it said: 'so it is'\): run again later"),
        ({"result": [502] * 3}, r"fails \(502; .*: run again later"),
        ({"POST ticket": [404]}, r"refuses the request \(404; it said: 'so it is'\): check server in \[search\]"),
        ({"POST ticket": [(302, {"Location": "https://elsewhere"})]}, "has moved to https://elsewhere: give its new"),
        ({"POST ticket": [b"<html>hello"]}, "answers with what is no ticket \\('<html>hello'\\): check server in"),
        ({"POST ticket": [b"[1]"]}, "answers with what is no ticket"),
        ({"POST ticket": [b'{"id": "../x", "status": "PENDING"}']}, "answers with a ticket without a number"),
        ({"GET ticket": [b'{"status": "DONE"}']}, "answers with the state 'DONE', which is not known"),
        ({"POST ticket": ["RATELIMIT"] * 3}, "takes no more searches from here for now: run again later"),
        ({"GET ticket": ["UNKNOWN"] * 3}, "has lost the search 3 times: run again later"),
        (
            {"POST ticket": ["ERROR"]},
            rf"could not search for {ONE[:24]}\.\.\. \(60 residues\): check the letters, give",
        ),
        (
            {"GET ticket": ["RUNNING", "ERROR"]},
            r"could not search for .* \(unpairedMsa, pairedMsa\), or run again later",
        ),
        ({"POST ticket": ["MAINTENANCE"]}, "is under maintenance: run again later"),
        ({"result": ["drop"]}, r"gives no answer \(.*\): check the network and server in \[search\]"),
        ({"result": [b""]}, r"answers with what is no tar archive: check server"),
    ],
)
def test_failures_are_told(fake: Fake, script: dict[str, list[object]], said: str) -> None:
    fake.script = script
    with pytest.raises(SearchError, match=rf"^the ColabFold server {fake.url} {said}"):
        Server(fake.url, QUICK).unpaired([ONE])
    assert not any(fake.script.values())  # it was tried as often as it should be, and no more


WHOLE = a3m([("101", ONE)], "r", 3)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (b"no archive at all", "what is no tar archive"),
        (packed({UNIREF: WHOLE, ENVIRONMENT: WHOLE})[:-40], "what is no tar archive"),
        (gzip.compress(b"no tar"), "what is no tar archive"),
        (packed({UNIREF: WHOLE}), f"an archive without {ENVIRONMENT}"),
        (packed({"other/uniref.a3m": WHOLE}), f"an archive without {UNIREF} and {ENVIRONMENT}"),
        (packed({UNIREF: "", ENVIRONMENT: WHOLE}), f"{UNIREF} without sequence 1"),
        (packed({UNIREF: "<html>\n", ENVIRONMENT: WHOLE}), f"{UNIREF} that is no alignment"),
        (packed({UNIREF: WHOLE + ">102\nA*1\n", ENVIRONMENT: WHOLE}), f"{UNIREF} that is no alignment"),
        (packed({UNIREF: WHOLE, ENVIRONMENT: f">101\n{OTHER}\n"}), f"{ENVIRONMENT} whose first row is not sequence 1"),
        (packed({UNIREF: WHOLE, ENVIRONMENT: f">101\n{ONE[::-1]}\n"}), f"{ENVIRONMENT} whose first row is not seq"),
        (packed({UNIREF: WHOLE, ENVIRONMENT: f">101\n{ONE}\n>r\nAC\n"}), f"{ENVIRONMENT}: row 2 has 2 match columns"),
    ],
)
def test_results_that_cannot_be_used(fake: Fake, result: bytes, said: str) -> None:
    fake.result = result
    with pytest.raises(SearchError, match=rf"^the ColabFold server {fake.url} answers with {said}"):
        Server(fake.url, QUICK).unpaired([ONE])


def test_pairs_of_unequal_length(fake: Fake) -> None:
    one, other = pairs([("101", ONE)], 3), pairs([("102", OTHER)], 4)
    fake.result = packed({PAIRED: f"{one}\0{other}\0"})
    with pytest.raises(SearchError, match=r"answers with pair\.a3m with unequal numbers of rows"):
        Server(fake.url, QUICK).paired([ONE, OTHER], "x")


def test_nobody_answers() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(SearchError, match=rf"^the ColabFold server {url} gives no answer \(.*refused"):
            Server(url, QUICK).unpaired([ONE])
    with pytest.raises(SearchError, match=r"gives no answer \(.*(resolve|known)"):
        Server("http://no-such-server.invalid", QUICK).unpaired([ONE])


def test_a_server_that_hangs(fake: Fake) -> None:
    fake.script = {"POST ticket": ["hang", "hang"]}
    with pytest.raises(SearchError, match=r"gives no answer \(.*timed out"):
        Server(fake.url, replace(QUICK, read=0.1)).unpaired([ONE])
    assert not any(fake.script.values())


def test_a_search_that_never_ends(fake: Fake) -> None:
    fake.script = {"GET ticket": ["RUNNING"] * 100_000}
    pace = replace(QUICK, minutes=0.1 / 60)
    with pytest.raises(SearchError, match=r"no result after .* minutes: raise server_minutes in \[search\]"):
        Server(fake.url, pace).unpaired([ONE])


def test_a_run_can_end_while_it_waits(fake: Fake) -> None:
    fake.script = {"GET ticket": ["RUNNING"] * 100_000}

    def check() -> None:
        if len(fake.asked) > 5:
            raise Stopped

    with pytest.raises(Stopped):
        Server(fake.url, QUICK, check).unpaired([ONE])


def test_a_password_is_not_told(fake: Fake) -> None:
    url = fake.url.replace("http://", "http://me:secret@")
    fake.script = {"POST ticket": ["MAINTENANCE"]}
    with pytest.raises(SearchError) as raised:
        Server(url, QUICK).unpaired([ONE])
    assert "secret" not in str(raised.value)
    assert fake.url in str(raised.value)
