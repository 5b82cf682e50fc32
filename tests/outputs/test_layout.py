"""The output folder: names, order, atomic files, streaming and resuming, refusals."""

import csv
import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from killed import contents, files, killed_at

from foldline.errors import InputError, NonFiniteOutput
from foldline.outputs.claims import Claim, Claims
from foldline.outputs.journal import Journal, unlist
from foldline.outputs.kept import kept_samples
from foldline.outputs.layout import (
    PredictedJob,
    SampleWriter,
    damage,
    is_finished,
    progress_file,
    record_file,
    record_of,
    remove_result,
    tidy,
    write_atomically,
    write_prediction,
)
from foldline.structure.atoms import Topology
from foldline.tensors.results import EmbeddingRows, Samples

RandomSamples = Callable[[Topology, int, int], Samples]
PARTS = ("model.cif", "confidences.json", "summary_confidences.json")


@pytest.fixture
def small(jobs: dict[str, PredictedJob]) -> PredictedJob:
    return replace(jobs["protein_nucleic"], name="my_Job-1.x")


def expected_files(name: str, samples: list[tuple[int, int]]) -> set[str]:
    top = {f"{name}_{part}" for part in (*PARTS, "data.json", "ranking_scores.csv", "run.json")}
    stems = [f"seed-{seed}_sample-{sample}" for seed, sample in samples]
    return top | {f"{stem}/{name}_{stem}_{part}" for stem in stems for part in PARTS}


def test_whole_result(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    folder = tmp_path / "results" / small.name
    samples = [random_samples(small.topology, seed, 2) for seed in (11, 3)]
    run = {"trunk_passes": 10, "warnings": []}
    best = write_prediction(folder, small, samples, '{"name": "mine"}', run)
    assert files(folder) == expected_files(small.name, [(11, 0), (11, 1), (3, 0), (3, 1)])
    scores = {(s.seed, i): c.ranking_score for s in samples for i, c in enumerate(s.confidences)}
    assert (best.seed, best.sample) == max(scores, key=lambda key: scores[key])
    for part in PARTS:
        source = folder / best.folder / f"{small.name}_{best.folder}_{part}"
        assert (folder / f"{small.name}_{part}").read_bytes() == source.read_bytes()
    table = (folder / f"{small.name}_ranking_scores.csv").read_bytes().decode()
    rows = list(csv.reader(table.splitlines()))
    assert rows[0] == ["seed", "sample", "ranking_score"] and table.endswith("\r\n")
    assert {(int(a), int(b)): float(c) for a, b, c in rows[1:]} == scores
    assert [row[:2] for row in rows[1:]] == [["11", "0"], ["11", "1"], ["3", "0"], ["3", "1"]]
    assert (folder / f"{small.name}_data.json").read_text() == '{"name": "mine"}'
    assert json.loads((folder / f"{small.name}_run.json").read_text()) == run | {
        "best": {"seed": best.seed, "sample": best.sample, "ranking_score": best.ranking_score},
        "stereocentres": {"count": 0, "inverted": []},
        "fingerprint": "",
        "seedless_fingerprint": "",
        "kept_seeds": [],
        "files": {name: (folder / name).stat().st_size for name in files(folder) - {f"{small.name}_run.json"}},
    }
    summary = json.loads((folder / f"{small.name}_summary_confidences.json").read_text())
    assert summary["ranking_score"] == round(best.ranking_score, 2)


def test_samples_stream_and_top_files_come_last(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    writer = SampleWriter(tmp_path, small)
    writer.write(random_samples(small.topology, 5, 1))
    visible = {name for name in files(tmp_path) if not name.startswith(".")}
    assert visible == {f"seed-5_sample-0/{small.name}_seed-5_sample-0_{part}" for part in PARTS}
    writer.write(random_samples(small.topology, 4, 1))
    writer.finish([b"{}"], {}, seeds=(4, 5))
    assert files(tmp_path) == expected_files(small.name, [(5, 0), (4, 0)])
    rows = (tmp_path / f"{small.name}_ranking_scores.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["seed", "4", "5"]


def test_equal_scores_keep_the_first(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    samples = random_samples(small.topology, 1, 3)
    same = tuple(replace(c, ranking_score=s) for c, s in zip(samples.confidences, (0.1, 0.7, 0.7), strict=True))
    assert write_prediction(tmp_path, small, [replace(samples, confidences=same)], "{}", {}).sample == 1


@pytest.mark.parametrize("what", ["coordinates", "atom_plddt", "pae", "pde", "ranking_score"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_is_refused_before_writing(
    what: str, value: float, small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    samples = random_samples(small.topology, 1, 2)
    bad = samples.confidences[1]
    if what == "coordinates":
        samples.coordinates[1, 7, 2] = value
    elif what in ("pae", "pde"):
        getattr(bad, what)[2, 3] = value
    elif what == "atom_plddt":
        bad.atom_plddt[3] = value
    else:
        bad = replace(bad, ranking_score=float(value))
    samples = replace(samples, confidences=(samples.confidences[0], bad))
    writer = SampleWriter(tmp_path, small)
    with pytest.raises(NonFiniteOutput, match="seed 1, sample 1: 1 of"):
        writer.write(samples)
    assert not (tmp_path / "seed-1_sample-1").exists()
    assert [(done.seed, done.sample) for done in writer.written] == [(1, 0)]


def test_parts_of_a_seed_are_numbered_on(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    whole = random_samples(small.topology, 1, 3)
    parts = [
        replace(whole, coordinates=whole.coordinates[which], confidences=whole.confidences[which], first=which.start)
        for which in (slice(2, 3), slice(0, 2))
    ]
    writer = SampleWriter(tmp_path / "parts", small)
    assert [(r.sample, r.ranking_score) for part in parts for r in writer.write(part)] == [
        (i, whole.confidences[i].ranking_score) for i in (2, 0, 1)
    ]
    assert writer.has_seed(1, 3) and not writer.has_seed(1, 4) and not writer.has_seed(2, 1)
    writer.finish([b"{}"], {}, seeds=(1,))
    write_prediction(tmp_path / "whole", small, [whole], "{}", {})
    names = files(tmp_path / "whole")
    assert names == files(tmp_path / "parts")
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "parts" / n).read_bytes() for n in names)


def test_a_seed_without_its_embeddings_is_not_finished(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    samples = random_samples(small.topology, 1, 1)
    writer = SampleWriter(tmp_path, small)
    writer.write(samples)
    assert writer.has_seed(1, 1) and not writer.has_seed(1, 1, embeddings=True)
    writer.write_embeddings(1, _embeddings(samples))
    assert writer.has_seed(1, 1, embeddings=True)


def test_what_a_run_killed_at_its_end_left_is_removed(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    write_prediction(tmp_path, small, [random_samples(small.topology, 1, 1)], "{}", {})
    whole = files(tmp_path)
    left = ("{}_progress.json", "{}_run.json.12-ab.tmp", ".{}_progress.json.12-ab.tmp")
    for name in (f".{name.format(small.name)}" for name in left):
        (tmp_path / name).write_text("{}")
    tidy(tmp_path, small.name)
    assert files(tmp_path) == whole


def test_resumes_what_the_same_run_finished(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    one, two = (random_samples(small.topology, seed, 2) for seed in (1, 2))
    SampleWriter(tmp_path, small, fingerprint="f").write(one)
    model = tmp_path / "seed-1_sample-0" / f"{small.name}_seed-1_sample-0_model.cif"
    stamp = model.stat().st_mtime_ns
    again = SampleWriter(tmp_path, small, fingerprint="f")
    assert again.is_written(1, 0) and again.is_written(1, 1) and not again.is_written(2, 0)
    again.write(one)
    again.write(two)
    assert not is_finished(tmp_path, small.name, "f")
    again.finish([b"{}"], {})
    assert model.stat().st_mtime_ns == stamp
    assert is_finished(tmp_path, small.name, "f") and not is_finished(tmp_path, small.name, "g")
    straight = tmp_path / "straight"
    writer = SampleWriter(straight, small, fingerprint="f")
    for samples in (one, two):
        writer.write(samples)
    writer.finish([b"{}"], {})
    assert all((tmp_path / name).read_bytes() == (straight / name).read_bytes() for name in files(straight))


def test_sample_with_a_missing_file_is_not_resumed(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    SampleWriter(tmp_path, small, fingerprint="f").write(random_samples(small.topology, 1, 2))
    (tmp_path / "seed-1_sample-1" / f"{small.name}_seed-1_sample-1_confidences.json").unlink()
    again = SampleWriter(tmp_path, small, fingerprint="f")
    assert again.is_written(1, 0) and not again.is_written(1, 1)


@pytest.mark.parametrize(
    "file", ["seed-1_sample-1/{}_seed-1_sample-1_model.cif", "seed-1_embeddings/{}_seed-1_embeddings.npz"]
)
def test_what_is_cut_short_is_not_resumed(
    file: str, small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    """Else the result would be whole with half a file in it."""
    samples = random_samples(small.topology, 1, 2)
    writer = SampleWriter(tmp_path, small, fingerprint="f")
    writer.write_embeddings(1, _embeddings(samples))
    writer.write(samples)
    assert SampleWriter(tmp_path, small, fingerprint="f").has_seed(1, 2, embeddings=True)
    path = tmp_path / file.format(small.name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    again = SampleWriter(tmp_path, small, fingerprint="f")
    assert not again.has_seed(1, 2) and again.is_written(1, 0) == ("sample" in file)
    again.write_embeddings(1, _embeddings(samples))
    again.write(samples)
    assert path.read_bytes() == whole and again.has_seed(1, 2, embeddings=True)


ODD = (None, 3, "x", [], [3], {"a": []}, [{}], [{"seed": 1}])


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_journals_and_records_that_are_something_else(
    odd: object, small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    """They count as none, in a job that is half done and in one that is done."""
    samples = random_samples(small.topology, 1, 1)
    SampleWriter(tmp_path, small, fingerprint="f", seedless="s").write(samples)
    journal, record = progress_file(tmp_path, small.name), record_file(tmp_path, small.name)
    said = json.loads(journal.read_text())
    for key in ("samples", "files", "fingerprint"):
        journal.write_text(json.dumps(said | {key: odd}))
        again = SampleWriter(tmp_path, small, fingerprint="f", seedless="s")
        assert again.written == [] and files(tmp_path) == set()
        again.write(samples)
    again.finish([b"{}"], {})
    whole = json.loads(record.read_text())
    for key in ("files", "fingerprint", "stereocentres", "best", "kept_seeds", "seedless_fingerprint"):
        record.write_text(json.dumps(whole | {key: odd}))
        kept = kept_samples(tmp_path, small.name, "s", [1])
        assert [sample.seed for sample in kept] in ([], [1]) and record_of(tmp_path, small.name) in (
            {},
            whole | {key: odd},
        )
        finished = is_finished(tmp_path, small.name, "f")
        assert finished == (isinstance(odd, type(whole[key])) and key not in ("files", "fingerprint"))
    SampleWriter(tmp_path, small, fingerprint="f", seedless="s")


def test_another_run_replaces_the_result_and_nothing_else(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    samples = random_samples(small.topology, 1, 2)
    first = SampleWriter(tmp_path, small, fingerprint="f")
    first.write(samples)
    first.write_embeddings(1, _embeddings(samples))
    first.finish([b"{}"], {})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "seed-1_sample-0" / "mine.pml").write_text("mine")
    (tmp_path / f"{small.name}_report.html").write_text("of the old one")
    old = contents(tmp_path)
    second = SampleWriter(tmp_path, small, fingerprint="g")
    assert second.remark.startswith("replaces the result of 20") and contents(tmp_path) == old
    second.write(random_samples(small.topology, 7, 1))
    assert contents(tmp_path) == old and is_finished(tmp_path, small.name, "f")
    second.finish([b"{}"], {})
    mine = {"notes.txt", "seed-1_sample-0/mine.pml"}
    assert files(tmp_path) == expected_files(small.name, [(7, 0)]) | mine
    assert not (tmp_path / "seed-1_sample-1").exists() and not (tmp_path / "seed-1_embeddings").exists()
    assert is_finished(tmp_path, small.name, "g")
    remove_result(tmp_path, small.name)
    assert files(tmp_path) == mine
    remove_result(tmp_path / "nowhere", small.name)


def test_a_replacing_run_goes_on_and_another_one_does_not(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    one, two, three = (random_samples(small.topology, seed, 1) for seed in (1, 2, 3))
    write_prediction(tmp_path, small, [one], "{}", {})
    old = contents(tmp_path)
    SampleWriter(tmp_path, small, fingerprint="g").write(two)
    assert SampleWriter(tmp_path, small, fingerprint="g").is_written(2, 0)
    assert not SampleWriter(tmp_path, small, fingerprint="h").is_written(2, 0)
    assert contents(tmp_path) == old, "what was half done with other options is gone"
    SampleWriter(tmp_path, small, fingerprint="g").write(two)
    assert not SampleWriter(tmp_path, small, fingerprint="g", seeds=()).is_written(2, 0)
    SampleWriter(tmp_path, small, fingerprint="g").write(two)
    tidy(tmp_path, small.name)
    assert contents(tmp_path) == old, "the old result is what is wanted"
    SampleWriter(tmp_path, small, fingerprint="g").write(two)
    again = SampleWriter(tmp_path, small, fingerprint="g")
    again.write(three)
    again.finish([b"{}"], {})
    assert files(tmp_path) == expected_files(small.name, [(2, 0), (3, 0)])


@pytest.mark.parametrize("part", ["model.cif", "data.json", "ranking_scores.csv", "run.json", "sample", "embeddings"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_damaged_result_is_not_finished(
    part: str, how: str, small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    """It is named, and stays until it is made again."""
    samples = random_samples(small.topology, 1, 2)
    writer = SampleWriter(tmp_path, small, fingerprint="f")
    writer.write(samples)
    writer.write_embeddings(1, _embeddings(samples))
    writer.finish([b"{}"], {})
    old = contents(tmp_path)
    name = f"{small.name}_{part}"
    if part == "sample":
        name = f"seed-1_sample-1/{small.name}_seed-1_sample-1_confidences.json"
    elif part == "embeddings":
        name = f"seed-1_embeddings/{small.name}_seed-1_embeddings.npz"
    assert damage(tmp_path, small.name) == "" and is_finished(tmp_path, small.name, "f")
    (tmp_path / name).unlink() if how == "gone" else (tmp_path / name).write_bytes(old[name][:-1])
    assert not is_finished(tmp_path, small.name, "f")
    says = {"gone": " is missing", "cut": f" has {len(old[name]) - 1} bytes, {len(old[name])} were written"}[how]
    says = f"{name}{' cannot be read' if (part, how) == ('run.json', 'cut') else says}"
    assert damage(tmp_path, small.name) == says
    again = SampleWriter(tmp_path, small, fingerprint="f")
    assert again.remark == f"its result is damaged ({says}): the job is predicted again" and again.written == []
    again.write(samples)
    again.write_embeddings(1, _embeddings(samples))
    again.finish([b"{}"], {})
    assert contents(tmp_path) == old


def test_records_without_sizes(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    """Of older versions: all files of the ranking table's samples have to be there."""
    writer = SampleWriter(tmp_path, small, fingerprint="f")
    writer.write(random_samples(small.topology, 1, 2))
    writer.finish([b"{}"], {})
    path = tmp_path / f"{small.name}_run.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "files"}))
    model = tmp_path / f"{small.name}_model.cif"
    model.write_bytes(model.read_bytes()[:-9])
    assert is_finished(tmp_path, small.name, "f")
    sample = f"seed-1_sample-1/{small.name}_seed-1_sample-1_model.cif"
    (tmp_path / sample).unlink()
    assert damage(tmp_path, small.name) == f"{sample} is missing" and not is_finished(tmp_path, small.name, "f")


def test_a_kill_at_any_moment_of_a_swap_leaves_one_result_whole(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one, or the new one, or what the next run ends without predicting anything; never a mixture that counts.

    The job is on the list of results as long as a record is there, and not while none is.
    """
    monkeypatch.setattr(os, "fsync", lambda number: None)
    name, out = small.name, tmp_path / "out"
    folder, new = out / name, tmp_path / "new" / name
    listed = out / "results.jsonl"
    one, two = (random_samples(small.topology, seed, 1) for seed in (1, 2))

    def write(place: Path, fingerprint: str, samples: Samples) -> None:
        writer = SampleWriter(place, small, fingerprint=fingerprint, before_swap=lambda: unlist(out, name))
        writer.write(samples)
        writer.write_embeddings(samples.seed, _embeddings(samples))
        writer.finish([b"{}"], {})

    write(new, "g", two)
    write(folder, "f", one)
    (folder / "notes.txt").write_text("mine")
    (folder / f"{name}_report.html").write_text("of the old one")
    Journal(out).finished(name, name)
    shutil.copytree(out, tmp_path / "before")
    wanted, old, states = contents(new), contents(folder), set()
    for number in itertools.count(1):
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "before", out)
        if not killed_at(number, lambda: write(folder, "g", two)):
            break
        after, lines = contents(folder), listed.read_text().splitlines()
        has_record = f"{name}_run.json" in after
        state = "old" if after == old else "new" if has_record else "between"
        assert state != "new" or after == wanted | {"notes.txt": b"mine"}
        assert has_record or not lines, "listed, and not there"
        assert not lines or json.loads(lines[0])["fingerprint"] == "f" and state == "old"
        done = [fingerprint for fingerprint in "fg" if is_finished(folder, name, fingerprint)]
        states.add((state, *done))
        if done == ["f"]:
            assert state == "old" and len(lines) == 1 and damage(folder, name) == ""
            again = SampleWriter(folder, small, fingerprint="g")
            again.write(two)
            again.write_embeddings(2, _embeddings(two))
            again.finish([b"{}"], {})
        else:
            with Claims(out) as claims:
                assert done == ["g"] and claims.take(name, "g") is Claim.FINISHED
        assert contents(folder) == wanted | {"notes.txt": b"mine"}
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert contents(folder) == wanted | {"notes.txt": b"mine"} and number > 40
    assert states == {("old", "f"), ("old", "g"), ("between", "g"), ("new", "g")}


def test_killed_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    """A file appears whole or not at all: the process dies in the middle of it."""
    target = tmp_path / "x_model.cif"
    program = """
        import os, signal, sys
        from pathlib import Path
        from foldline.outputs.layout import write_atomically
        def pieces():
            yield b"half" * 100000
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(Path(sys.argv[1]), pieces())
    """
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(target)], cwd=root, check=False, timeout=60
    )
    assert done.returncode == -9 and not target.exists()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".x_model.cif.") and leftover.suffix == ".tmp"


def test_leftovers_of_a_killed_run_are_removed(small: PredictedJob, tmp_path: Path) -> None:
    (tmp_path / "seed-1_sample-0").mkdir()
    mine = tmp_path / "seed-1_sample-0" / f".{small.name}_seed-1_sample-0_model.cif.1-aa.tmp"
    other = tmp_path / ".other_model.cif.1-aa.tmp"
    for path in (mine, other):
        path.write_text("half")
    SampleWriter(tmp_path, small, fingerprint="f")
    assert not mine.exists() and other.exists()


def test_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_atomically(target, [b"old"])

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, pieces())
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_a_reader_keeps_the_old_file_while_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_atomically(target, [b"old"])
    with target.open("rb") as reader:
        write_atomically(target, [b"new"])
        assert reader.read() == b"old" and target.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/etc/x", "a\\b"])
def test_name_cannot_leave_the_folder(name: str, small: PredictedJob) -> None:
    with pytest.raises(InputError, match="cannot be used in file names"):
        replace(small, name=name)


def _embeddings(samples: Samples) -> EmbeddingRows:
    """Embeddings whose pair representation comes in blocks of five rows."""
    n = len(samples.contact_probs)
    rng = np.random.default_rng(0)
    s_inputs, s, z = (rng.normal(size=shape).astype(np.float32) for shape in ((n, 5), (n, 4), (n, n, 2)))
    return EmbeddingRows(s_inputs, s, z.shape, lambda: (z[start : start + 5] for start in range(0, n, 5)))


def test_embeddings(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    embeddings = _embeddings(random_samples(small.topology, 1, 1))
    whole = embeddings.whole()
    assert whole.z.dtype == np.float32 and whole.z.shape == embeddings.z_shape and len(whole.z) > 5
    writer = SampleWriter(tmp_path, small)
    path = writer.write_embeddings(9, embeddings)
    assert path.relative_to(tmp_path) == Path(f"seed-9_embeddings/{small.name}_seed-9_embeddings.npz")
    with np.load(path) as read:
        assert read.files == ["single_embeddings", "pair_embeddings"]
        assert read["single_embeddings"].dtype == read["pair_embeddings"].dtype == np.float16
        assert np.array_equal(read["single_embeddings"], whole.s.astype(np.float16))
        assert np.array_equal(read["pair_embeddings"], whole.z.astype(np.float16))
    again = writer.write_embeddings(8, embeddings)
    assert again.read_bytes() == path.read_bytes()


def test_embeddings_that_break_off_leave_no_file(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    """Neither half of a new file nor a changed old one."""
    embeddings, writer = _embeddings(random_samples(small.topology, 1, 1)), SampleWriter(tmp_path, small)

    def breaking_off() -> Iterator[np.ndarray]:
        yield next(embeddings.z_rows())
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        writer.write_embeddings(9, replace(embeddings, z_rows=breaking_off))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    path = writer.write_embeddings(9, embeddings)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space"):
        writer.write_embeddings(9, replace(embeddings, z_rows=breaking_off))
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
