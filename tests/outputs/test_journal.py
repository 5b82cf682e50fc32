"""The lists of an output folder: one line a job, two processes, half lines, and the file to try again from."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from foldline.errors import DoesNotFit, InputError, InternalError, NonFiniteOutput
from foldline.inputs import read_jobs
from foldline.outputs.journal import FAILED, RESULTS, RETRY, Journal, unlist
from foldline.outputs.layout import TOP_PARTS

ROOT = Path(__file__).resolve().parents[2]
NO_FIT = DoesNotFit(9, 2**31, 2**30, "use another")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def job_json(name: str) -> str:
    sequences = [{"ligand": {"id": "A", "ccdCodes": ["ZN"]}}]
    return json.dumps(
        {"name": name, "modelSeeds": [1], "sequences": sequences, "dialect": "alphafold3", "version": 4}, indent=2
    )


def finish(journal: Journal, name: str, fingerprint: str = "f", **more: object) -> None:
    """A job's files, and the news of them."""
    (journal.out / name).mkdir(exist_ok=True)
    for part in TOP_PARTS:
        (journal.out / name / f"{name}_{part}").write_text("")
    record = {"n_token": 7, "fingerprint": fingerprint, "best": {"seed": 1, "sample": 2, "ranking_score": 0.5}} | more
    (journal.out / name / f"{name}_run.json").write_text(json.dumps(record))
    journal.finished(f"the {name}", name)


def fail(journal: Journal, name: str, error: Exception = NO_FIT) -> None:
    journal.failed(f"the {name}", name, error, stage="trunk", job_json=job_json(f"the {name}"))  # pyright: ignore


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path)
    made.begin([])
    return made


def test_a_finished_job_is_a_line_once(journal: Journal) -> None:
    finish(journal, "a", trunk_passes=10, secret="not listed")
    finish(journal, "b")
    journal.finished("the a", "a")
    found = lines(journal.out / RESULTS)
    assert [line["directory"] for line in found] == ["a", "b"]
    assert found[0] == {
        "job": "the a",
        "directory": "a",
        "ranking_score": 0.5,
        "best_seed": 1,
        "best_sample": 2,
        "n_token": 7,
        "trunk_passes": 10,
        "fingerprint": "f",
    }
    Journal(journal.out).finished("the b", "b")
    finish(journal, "a", "g")
    assert [(line["directory"], line["fingerprint"]) for line in lines(journal.out / RESULTS)] == [
        ("b", "f"),
        ("a", "g"),
    ]


def test_a_job_without_a_record_has_no_line(journal: Journal) -> None:
    journal.finished("the a", "a")
    assert lines(journal.out / RESULTS) == []


def test_failures_have_code_stage_and_sentence(journal: Journal) -> None:
    fail(journal, "a")
    error = NonFiniteOutput("not a number")
    error.stage = "confidence"
    fail(journal, "b", error)
    fail(journal, "c", InputError("wrong", path="$.sequences[0]", source="in.json"))
    fail(journal, "d", InternalError(KeyError("x")))
    found = {line.pop("directory"): line for line in lines(journal.out / FAILED)}
    assert found["a"] == {
        "job": "the a",
        "code": "does_not_fit",
        "stage": "trunk",
        "message": str(NO_FIT),
        "path": None,
        "source": None,
    }
    assert (found["b"]["code"], found["b"]["stage"]) == ("non_finite_output", "confidence")
    assert (found["c"]["path"], found["c"]["source"]) == ("$.sequences[0]", "in.json")
    assert found["d"]["code"] == "internal_error" and "KeyError" in found["d"]["details"]


def test_the_failed_can_be_tried_again_and_are_forgotten_when_finished(journal: Journal) -> None:
    for name in "abc":
        fail(journal, name)
    fail(journal, "a", NonFiniteOutput("worse"))
    journal.close()
    assert [line["code"] for line in lines(journal.out / FAILED)] == ["does_not_fit"] * 2 + ["non_finite_output"]
    assert sorted(job.name for job in read_jobs(journal.out / RETRY)) == ["the a", "the b", "the c"]
    again = Journal(journal.out)
    again.begin([])
    finish(again, "a")
    fail(again, "b")
    again.close()
    assert [line["job"] for line in lines(journal.out / FAILED)] == ["the c", "the b"]
    assert sorted(job.name for job in read_jobs(journal.out / RETRY)) == ["the b", "the c"]
    last = Journal(journal.out)
    last.begin([])
    finish(last, "b")
    finish(last, "c")
    last.close()
    assert lines(journal.out / FAILED) == [] and not (journal.out / RETRY).exists()
    assert len(lines(journal.out / RESULTS)) == 3


def test_a_failure_takes_the_line_of_a_result_that_is_gone(journal: Journal) -> None:
    for name in "abc":
        finish(journal, name)
    (journal.out / "a" / "a_run.json").unlink()
    (journal.out / "c" / "c_model.cif").unlink()
    for name in "abc":
        fail(journal, name)
    assert [line["directory"] for line in lines(journal.out / RESULTS)] == ["b"]


def test_a_failure_beside_an_earlier_result_is_kept_until_there_is_a_new_one(journal: Journal) -> None:
    """Both lists have the job: its earlier result stays where it is."""
    finish(journal, "a", "old")
    fail(journal, "a")
    journal.close()
    assert [line["earlier_result"] for line in lines(journal.out / FAILED)] == ["old"]
    again = Journal(journal.out)
    again.begin([])
    again.close()
    assert [line["job"] for line in lines(journal.out / FAILED)] == ["the a"] and (journal.out / RETRY).exists()
    line = lines(journal.out / RESULTS)[0] | {"fingerprint": "new"}
    (journal.out / RESULTS).write_text(json.dumps(line) + "\n")  # killed between the one list and the other
    again = Journal(journal.out)
    again.begin([])
    again.close()
    assert lines(journal.out / FAILED) == [] and not (journal.out / RETRY).exists()


def test_a_job_that_is_taken_off_the_list_by_another(journal: Journal) -> None:
    """A list is read anew when it is another file, be that of the same number and longer."""
    for name in "abc":
        finish(journal, name)
    journal._results.read()
    unlist(journal.out, "b")
    unlist(journal.out, "nowhere")
    finish(journal, "a", "g")
    assert [line["directory"] for line in lines(journal.out / RESULTS)] == ["c", "a"]
    path = journal.out / RESULTS
    text = path.read_text().replace('"directory": "c"', '"directory": "d"') + path.read_text()
    path.write_text(text.splitlines()[0].replace("the c", "the longer d") + "\n" + text.splitlines()[-1] + "\n")
    journal._results.read()
    assert sorted(journal._results.lines) == ["a", "d"]


def test_faults_of_files_are_forgotten_when_the_files_are_read_anew(journal: Journal) -> None:
    for source in ("one.json", "two.json"):
        journal.unreadable(InputError("wrong", path="$.x", source=source))
        journal.unreadable(InputError("wrong", path="$.x", source=source))
    assert [(line["job"], line["stage"], line["source"]) for line in lines(journal.out / FAILED)] == [
        (None, "read", "one.json"),
        (None, "read", "two.json"),
    ]
    Journal(journal.out).begin(["one.json"])
    assert [line["source"] for line in lines(journal.out / FAILED)] == ["two.json"]


def test_a_failure_of_a_job_whose_record_cannot_be_read_is_listed(journal: Journal) -> None:
    """A folder lies in its place, say."""
    finish(journal, "a")
    (journal.out / "a" / "a_run.json").unlink()
    (journal.out / "a" / "a_run.json").mkdir()
    fail(journal, "a")
    assert [line["directory"] for line in lines(journal.out / FAILED)] == ["a"] and not lines(journal.out / RESULTS)


@pytest.mark.parametrize("odd", [3, [], {}, [3], None], ids=repr)
def test_lines_that_are_something_else_are_left_out(journal: Journal, odd: object) -> None:
    finish(journal, "a")
    fail(journal, "b")
    journal.close()
    for name in (RESULTS, FAILED):
        (line,) = lines(journal.out / name)
        added = [json.dumps(line | {key: odd}) + "\n" for key in ("job", "directory")]
        added += [json.dumps(line | {key: odd}) + "\n" for key in ("source", "fingerprint") if odd is not None]
        with (journal.out / name).open("a") as file:
            file.writelines(added)
    (journal.out / RETRY).write_text(json.dumps([{"name": odd}, odd, json.loads(job_json("the b"))]))
    again = Journal(journal.out)
    again.begin(["x"])
    finish(again, "c")
    again.close()
    assert [line["directory"] for line in lines(journal.out / RESULTS)] == ["a", "c"]
    assert [line["directory"] for line in lines(journal.out / FAILED)] == ["b"]
    assert [job["name"] for job in json.loads((journal.out / RETRY).read_text())] == ["the b"]


def test_half_a_line_is_cut_off(journal: Journal) -> None:
    finish(journal, "a")
    finish(journal, "b")
    path = journal.out / RESULTS
    path.write_bytes(path.read_bytes()[:-9])
    (journal.out / f".{RESULTS}.1-ab.tmp").write_text("half")
    again = Journal(journal.out)
    again.begin([])
    finish(again, "c")
    assert [line["directory"] for line in lines(path)] == ["a", "c"]
    finish(again, "b")
    assert [line["directory"] for line in lines(path)] == ["a", "c", "b"]
    assert [p.name for p in journal.out.glob(".*.tmp")] == []


def test_a_long_list_is_not_written_anew_for_every_job(journal: Journal) -> None:
    for number in range(200):
        finish(journal, f"j{number}")
    inode = (journal.out / RESULTS).stat().st_ino
    finish(journal, "j5", "g")
    assert (journal.out / RESULTS).stat().st_ino == inode
    journal.close()
    found = lines(journal.out / RESULTS)
    assert len(found) == 200 and {line["fingerprint"] for line in found if line["directory"] == "j5"} == {"g"}


def test_two_processes_add_to_one_list(tmp_path: Path) -> None:
    program = """
        import json, sys
        from pathlib import Path
        from foldline.errors import DoesNotFit
        from foldline.outputs.journal import Journal
        out, who = Path(sys.argv[1]), sys.argv[2]
        journal = Journal(out)
        journal.begin([])
        for number in range(40):
            for name in (f"{who}{number}", f"both{number}"):
                (out / name).mkdir(exist_ok=True)
                (out / name / f"{name}_run.json").write_text(json.dumps({"fingerprint": "f"}))
                journal.finished(name, name)
            error = DoesNotFit(1, 2, 1, "x" * 3000)
            journal.failed(f"bad{who}{number}", f"bad{who}{number}", error, stage="plan",
                           job_json=json.dumps({"name": f"bad{who}{number}"}))
        journal.close()
    """
    runs = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(tmp_path), who], cwd=ROOT) for who in "xy"
    ]
    assert [run.wait(60) for run in runs] == [0, 0]
    found = [line["directory"] for line in lines(tmp_path / RESULTS)]
    assert len(found) == len(set(found)) == 120
    failed = [line["directory"] for line in lines(tmp_path / FAILED)]
    assert len(failed) == len(set(failed)) == 80
    assert len(json.loads((tmp_path / RETRY).read_text())) == 80
