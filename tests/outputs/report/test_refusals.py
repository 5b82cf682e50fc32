"""Folders that are no result, half-written, incomplete or at odds with themselves: one sentence, nothing written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline.errors import InputError, WriteError
from foldline.outputs.layout import SampleWriter
from foldline.outputs.report import page, plots
from foldline.outputs.report.page import write_report
from foldline.outputs.report.plots import write_plots

Break = Callable[[Any], None]


def sample(result: Any, name: str, part: str) -> Path:
    return result.folder / name / f"{result.job.name}_{name}_{part}"


def top(result: Any, part: str) -> Path:
    return Path(f"{result.stem}_{part}")


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def both(result: Any, part: str, edit: Callable[[Path], None]) -> None:
    """Edit a file of the best sample and its copy at the top alike."""
    best = max(((c.ranking_score, s.seed, i) for s in result.samples for i, c in enumerate(s.confidences)))
    edit(sample(result, f"seed-{best[1]}_sample-{best[2]}", part))
    edit(top(result, part))


def without_last_row(path: Path) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"pae": value["pae"][:-1]}))


def one_word(path: Path) -> None:
    value = json.loads(path.read_text())
    value["pae"][2][3] = "high"
    path.write_text(json.dumps(value))


def swap(result: Any, part: str) -> None:
    """Exchange a file of the two samples of seed 1, and keep the top the best's."""
    paths = [sample(result, f"seed-1_sample-{i}", part) for i in (0, 1)]
    texts = [path.read_bytes() for path in paths]
    for path, text in zip(paths, reversed(texts), strict=True):
        path.write_bytes(text)
    best = max(((c.ranking_score, s.seed, i) for s in result.samples for i, c in enumerate(s.confidences)))
    top(result, part).write_bytes(sample(result, f"seed-{best[1]}_sample-{best[2]}", part).read_bytes())


def shorter(path: Path) -> None:
    """Take the last atom away."""
    lines = path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith(("ATOM", "HETATM")))
    path.write_text("".join(lines[:last] + lines[last + 1 :]))


def shorter_everywhere(result: Any) -> None:
    for path in result.folder.rglob("*_model.cif"):
        shorter(path)


CASES: dict[str, tuple[Break, str]] = {
    "no run.json": (lambda r: top(r, "run.json").unlink(), "is half-written, its run has not ended"),
    "no data": (lambda r: top(r, "data.json").unlink(), "is not whole, it lacks complex_data.json"),
    "no sample": (lambda r: shutil.rmtree(r.folder / "seed-7_sample-1"), "names samples whose files are not there"),
    "no PAE file": (lambda r: sample(r, "seed-1_sample-1", "confidences.json").unlink(), "files are not there"),
    "no PAE": (lambda r: both(r, "confidences.json", lambda p: change(p, pae="gone")), "has no PAE"),
    "null PAE": (lambda r: both(r, "confidences.json", lambda p: change(p, pae=None)), "has no PAE"),
    "PAE of a row less": (lambda r: both(r, "confidences.json", without_last_row), "disagrees with itself: a PAE of"),
    "PAE with a word": (lambda r: both(r, "confidences.json", one_word), "is not a file of full confidences"),
    "no tokens": (lambda r: both(r, "confidences.json", lambda p: change(p, token_chain_ids=1)), "token_chain_ids"),
    "half a file": (lambda r: both(r, "confidences.json", lambda p: p.write_text('{"pae": [[1')), "confidences.json"),
    "half a structure": (lambda r: both(r, "model.cif", lambda p: p.write_text("data_x\nloop_\n_a.b\n")), "structure"),
    "one more sample": (
        lambda r: shutil.copytree(r.folder / "seed-1_sample-0", r.folder / "seed-9_sample-0"),
        "seed-9_sample-0 is not in its ranking table",
    ),
    "another job": (
        lambda r: change(top(r, "data.json"), name="other"),
        "is the job 'other', whose files would not be called complex_",
    ),
    "a longer chain": (
        lambda r: top(r, "data.json").write_text(top(r, "data.json").read_text().replace("ACGTTGCA", "ACGTTGCAA")),
        "chain C has 8 residues there",
    ),
    "not the best on top": (
        lambda r: top(r, "model.cif").write_text(top(r, "model.cif").read_text() + "\n"),
        "is not the file of seed-",
    ),
    "scores of two kinds": (
        lambda r: both(r, "summary_confidences.json", lambda p: change(p, ranking_score=0.111)),
        "a ranking score of 0.111, where the ranking table has",
    ),
    "other chains": (
        lambda r: both(r, "summary_confidences.json", lambda p: change(p, chain_ids=list("ABCDEG"))),
        "its chains are",
    ),
    "no pTM": (lambda r: both(r, "summary_confidences.json", lambda p: change(p, ptm="gone")), "has no 'ptm'"),
    "confidences of another sample": (lambda r: swap(r, "confidences.json"), "as if of another sample"),
    "an atom less": (shorter_everywhere, "disagrees with the full confidences beside it"),
    "an atom less in one": (lambda r: shorter(sample(r, "seed-7_sample-1", "model.cif")), "model.cif"),
    "other number of tokens": (lambda r: change(top(r, "run.json"), n_token=7), "7 as n_token in the record"),
    "not a record": (lambda r: top(r, "run.json").write_text("[1]"), "a JSON object is expected"),
    "not a table": (lambda r: top(r, "ranking_scores.csv").write_text("a,b\n"), "is not a ranking table"),
    "a score that is none": (
        lambda r: top(r, "ranking_scores.csv").write_text("seed,sample,ranking_score\n1,0,nan\n"),
        "is not a ranking table",
    ),
    "two results": (
        lambda r: (r.folder / "other_run.json").write_text("{}"),
        "holds the results of several jobs (complex, other)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused(result: Any, case: str) -> None:
    broken, says = CASES[case]
    broken(result)
    before = {path: path.read_bytes() for path in result.folder.rglob("*") if path.is_file()}
    for write in (write_report, write_plots):
        with pytest.raises(InputError) as caught:
            write(result.folder)
        message = str(caught.value)
        assert says in message and "\n" not in message, message
    assert before == {path: path.read_bytes() for path in result.folder.rglob("*") if path.is_file()}


def test_somebodys_file_in_the_folder_of_a_sample_that_went(result: Any) -> None:
    other = result.folder / "seed-9_sample-0"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    (other / f"{result.job.name}_seed-9_sample-0_model.cif").mkdir()
    assert write_report(result.folder).is_file() and (other / "notes.txt").is_file()


def test_an_older_report_stays_whole(result: Any) -> None:
    path = write_report(result.folder)
    old = path.read_bytes()
    top(result, "data.json").unlink()
    with pytest.raises(InputError):
        write_report(result.folder)
    assert path.read_bytes() == old


def test_folders_that_are_no_result(result: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for folder, says in (
        (tmp_path / "empty", "is not the result of a job"),
        (tmp_path / "file", "is a file, not a folder"),
        (tmp_path / "none", "does not exist"),
        (tmp_path, "name one of complex in it"),
    ):
        with pytest.raises(InputError, match=says):
            write_report(folder)


def test_a_run_that_goes_on(result: Any, tmp_path: Path) -> None:
    """One sample is written and the run was killed."""
    writer = SampleWriter(tmp_path / "half", result.job, fingerprint="1")
    writer.write(result.samples[0])
    with pytest.raises(InputError, match="is half-written, its run has not ended"):
        write_report(tmp_path / "half")


def test_a_full_disk(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, pieces: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write_atomically", full)
    monkeypatch.setattr(plots, "write_atomically", full)
    for write in (write_report, write_plots):
        with pytest.raises(WriteError, match=r"cannot be written.* \(No space left on device\): check ") as refused:
            write(result.folder)
        assert str(result.folder) in str(refused.value)


def test_plots_without_their_library(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="need matplotlib: pip install"):
        write_plots(result.folder)
