"""The output folder: names, order, atomic files, streaming and resuming, refusals."""

import csv
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldline.errors import InputError, NonFiniteOutput
from foldline.outputs.layout import (
    PredictedJob,
    SampleWriter,
    is_finished,
    remove_result,
    tidy,
    write_atomically,
    write_prediction,
)
from foldline.structure.atoms import Topology
from foldline.tensors.results import Embeddings, Samples

RandomSamples = Callable[[Topology, int, int], Samples]
PARTS = ("model.cif", "confidences.json", "summary_confidences.json")


@pytest.fixture
def small(jobs: dict[str, PredictedJob]) -> PredictedJob:
    return replace(jobs["protein_nucleic"], name="my_Job-1.x")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


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
    writer.finish("{}", {}, seeds=(4, 5))
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
    writer.finish("{}", {}, seeds=(1,))
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
    again.finish("{}", {})
    assert model.stat().st_mtime_ns == stamp
    assert is_finished(tmp_path, small.name, "f") and not is_finished(tmp_path, small.name, "g")
    straight = tmp_path / "straight"
    writer = SampleWriter(straight, small, fingerprint="f")
    for samples in (one, two):
        writer.write(samples)
    writer.finish("{}", {})
    assert all((tmp_path / name).read_bytes() == (straight / name).read_bytes() for name in files(straight))


def test_sample_with_a_missing_file_is_not_resumed(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    SampleWriter(tmp_path, small, fingerprint="f").write(random_samples(small.topology, 1, 2))
    (tmp_path / "seed-1_sample-1" / f"{small.name}_seed-1_sample-1_confidences.json").unlink()
    again = SampleWriter(tmp_path, small, fingerprint="f")
    assert again.is_written(1, 0) and not again.is_written(1, 1)


def test_another_run_replaces_the_result_and_nothing_else(
    small: PredictedJob, random_samples: RandomSamples, tmp_path: Path
) -> None:
    samples = random_samples(small.topology, 1, 2)
    first = SampleWriter(tmp_path, small, fingerprint="f")
    first.write(samples)
    first.write_embeddings(1, _embeddings(samples))
    first.finish("{}", {})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "seed-1_sample-0" / "mine.pml").write_text("mine")
    SampleWriter(tmp_path, small, fingerprint="g")
    assert files(tmp_path) == {"notes.txt", "seed-1_sample-0/mine.pml"}
    assert not (tmp_path / "seed-1_sample-1").exists() and not (tmp_path / "seed-1_embeddings").exists()
    remove_result(tmp_path / "nowhere", small.name)


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


def _embeddings(samples: Samples) -> Embeddings:
    n = len(samples.contact_probs)
    rng = np.random.default_rng(0)
    shapes = ((n, 5), (n, 4), (n, n, 2))
    return Embeddings(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def test_embeddings(small: PredictedJob, random_samples: RandomSamples, tmp_path: Path) -> None:
    embeddings = _embeddings(random_samples(small.topology, 1, 1))
    path = SampleWriter(tmp_path, small).write_embeddings(9, embeddings)
    assert path.relative_to(tmp_path) == Path(f"seed-9_embeddings/{small.name}_seed-9_embeddings.npz")
    with np.load(path) as read:
        assert sorted(read.files) == ["pair_embeddings", "single_embeddings"]
        assert read["single_embeddings"].dtype == read["pair_embeddings"].dtype == np.float16
        assert np.array_equal(read["single_embeddings"], embeddings.s.astype(np.float16))
        assert np.array_equal(read["pair_embeddings"], embeddings.z.astype(np.float16))
