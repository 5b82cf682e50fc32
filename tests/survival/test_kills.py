"""The command in processes of its own: killed, asked to end, and two of them on one folder."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import ALONE, LISTS, SETTINGS, Forked, Tormentor, alike, contents, finish, leftovers, listed, start


@pytest.fixture(scope="module")
def tormentor(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Tormentor:
    return Tormentor(tmp_path_factory.mktemp("survival"), checkpoint, jobs=2, starter=Forked)


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(tormentor: Tormentor) -> None:
    """Eight kills; `benchmarks/kills.py` makes as many as one wants."""
    seed = random.randrange(10**6)
    said: list[str] = []
    try:
        assert tormentor.run(8, seed=seed, say=said.append).kills == 8
    except AssertionError as error:
        error.add_note("\n".join([f"seed {seed}", *said]))
        raise


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_end_goes_on_later(tormentor: Tormentor, number: signal.Signals, code: int) -> None:
    """The one that is sent SIGTERM is a new interpreter; all others are forks, whose lives are all work."""
    out, begin = f"asked-{number.name}", start if number == signal.SIGTERM else Forked
    process = begin(tormentor.folder, tormentor.checkpoint, out, *ALONE)
    while process.poll() is None and not list((tormentor.folder / out).glob("*/seed-*")):
        time.sleep(0.01)
    process.send_signal(number)
    ended, printed = finish(process)
    assert ended == code and printed.splitlines()[-1].startswith(f"stopped by {number.name} with "), printed
    assert len(printed.splitlines()) == 1 and leftovers(tormentor.folder / out) in (
        [],
        *([f"{job}/.{job}_progress.json"] for job in tormentor.names),
    )
    some = contents(tormentor.folder / out)
    assert 0 < len(some) < len(tormentor.reference) and some.items() <= tormentor.reference.items()
    ended, printed = finish(Forked(tormentor.folder, tormentor.checkpoint, out, *ALONE))
    assert (ended, printed) == (0, "") and contents(tormentor.folder / out) == tormentor.reference


@pytest.mark.slow
def test_seeds_beside_each_other_end_with_the_run(checkpoint: Path, tmp_path: Path) -> None:
    """All threads of the network end at once; what was finished is kept and the others come later."""
    protein = {"protein": {"id": "A", "sequence": 130 * "A"}}
    job = {"dialect": "alphafold3", "version": 1, "name": "long", "modelSeeds": [1, 2, 3, 4]}
    (tmp_path / "jobs.json").write_text(json.dumps(job | {"sequences": [protein]}))
    (tmp_path / "foldline.toml").write_text(SETTINGS.replace("threads = 1", "threads = 2"))
    process = start(tmp_path, checkpoint, "out", "--steps", "20", "--progress", "json")
    assert process.stdout is not None
    said = [process.stdout.readline()]
    while '"seed": 3' not in said[-1] or '"stage": "diffusion"' not in said[-1]:
        assert process.poll() is None and said[-1], said
        said.append(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    rest, printed = process.communicate(timeout=300)
    assert (process.returncode, printed, json.loads(rest.splitlines()[-1])["stopped_by"]) == (143, "", "SIGTERM")
    assert any("2 seeds beside each other" in line for line in said)
    done = sorted(path.name for path in (tmp_path / "out" / "long").glob("seed-*"))
    assert 4 <= len(done) < 8, "two samples of two seeds were written when the next two began"
    again = start(tmp_path, checkpoint, "out", "--steps", "20")
    code, printed = finish(again)
    assert (code, printed) == (0, "") and len(list((tmp_path / "out" / "long").glob("seed-*/*_model.cif"))) == 8


@pytest.mark.slow
def test_two_processes_share_a_folder_and_one_may_die(tormentor: Tormentor) -> None:
    """Nothing is predicted twice; of one that is killed, the other takes over what it had begun."""
    folder, checkpoint = tormentor.folder, tormentor.checkpoint
    pair = [Forked(folder, checkpoint, "shared", *ALONE, "--progress", "json") for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    jobs = [line for text in said for line in map(json.loads, text.splitlines()) if line["event"] == "job"]
    assert sorted(line["job"] for line in jobs) == sorted(2 * tormentor.names)
    assert sorted(line["job"] for line in jobs if not line["skipped"]) == tormentor.names
    assert contents(folder / "shared") == tormentor.reference
    assert sorted(listed(folder / "shared" / LISTS[0], torn=False)) == tormentor.names

    doomed, heir = (Forked(folder, checkpoint, "inherited", *ALONE) for _ in range(2))
    while doomed.poll() is None and not list((folder / "inherited").glob("*/seed-*")):
        time.sleep(0.01)
    doomed.kill()
    finish(doomed)
    assert finish(heir) == (0, "")
    assert contents(folder / "inherited") == tormentor.reference and leftovers(folder / "inherited") == []


def test_the_tormentor_sees_half_files(tormentor: Tormentor, tmp_path: Path) -> None:
    """A command that writes in place is found out."""
    program = "import sys, time; from pathlib import Path; p = Path(sys.argv[1]); p.write_text('ha'); time.sleep(9)"
    (tmp_path / "out" / "job0").mkdir(parents=True)
    target = tmp_path / "out" / "job0" / "job0_model.cif"
    process = subprocess.Popen([sys.executable, "-c", program, str(target)])
    while not target.exists() or not target.read_text():
        time.sleep(0.01)
    process.kill()
    process.wait()
    other = object.__new__(Tormentor)
    other.__dict__ |= tormentor.__dict__ | {"folder": tmp_path}
    with pytest.raises(AssertionError, match="half-written"):
        other._check({})
    target.write_bytes(tormentor.reference["job0/job0_model.cif"])
    with pytest.raises(AssertionError, match="lost"):
        other._check({"job1/job1_model.cif": b""})


def test_numbers_may_differ_in_their_last_digit_alone() -> None:
    assert alike(b"x 1.25 y -0.01\n", b"x 1.26 y 0.00\n")
    assert not alike(b"x 1.25 y", b"x 1.30 y") and not alike(b"x 1.25", b"x 1.25 y") and not alike(b"x 1.2", b"")
