"""Claims on jobs: of this process, of others, of dead ones; and what finished results are tidied of."""

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from foldline.outputs.claims import Claim, Claims

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("model.cif", "confidences.json", "summary_confidences.json", "data.json", "ranking_scores.csv")


def finish(out: Path, name: str, fingerprint: str) -> None:
    """A whole result, as far as files go."""
    (out / name).mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        (out / name / f"{name}_{part}").write_text("")
    (out / name / f"{name}_run.json").write_text(json.dumps({"fingerprint": fingerprint}))


HOLD = """
    import sys
    from pathlib import Path
    from foldline.outputs.claims import Claims
    with Claims(Path(sys.argv[1])) as claims:
        print(claims.take("a", "f").value, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has the job."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "mine\n"
    yield process  # pyright: ignore[reportReturnType]
    process.kill()
    process.communicate()


def test_a_job_belongs_to_one_at_a_time(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        assert one.take("a", "f") is Claim.MINE
        assert one.take("a", "f") is Claim.BUSY and two.take("a", "f") is Claim.BUSY
        assert two.take("b", "f") is Claim.MINE
        one.give_back("a")
        assert two.take("a", "f") is Claim.MINE
    with Claims(tmp_path) as three:
        assert three.take("a", "f") is three.take("b", "f") is Claim.MINE
        three.give_back("unknown")


def test_a_claim_may_be_given_back_by_another_thread(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        thread = threading.Thread(target=claims.take, args=("a", "f"))
        thread.start()
        thread.join()
        claims.give_back("a")
        with Claims(tmp_path) as others:
            assert others.take("a", "f") is Claim.MINE


def test_finished_jobs_are_told_and_tidied(tmp_path: Path) -> None:
    finish(tmp_path, "a", "f")
    left = tmp_path / "a" / ".a_progress.json"
    left.write_text("{}")
    with Claims(tmp_path) as claims:
        assert claims.take("a", "f") is Claim.FINISHED and not left.exists()
        assert claims.take("a", "other") is Claim.MINE, "another job's result is not this one's"
        claims.give_back("a")
        assert claims.take("a", "f", overwrite=True) is Claim.MINE


@pytest.mark.parametrize("signal", ["kill", "terminate"])
def test_a_dead_process_is_no_obstacle(tmp_path: Path, holder: subprocess.Popen[str], signal: str) -> None:
    with Claims(tmp_path) as claims:
        assert claims.take("a", "f") is Claim.BUSY
        getattr(holder, signal)()
        holder.wait()
        assert claims.take("a", "f") is Claim.MINE


def test_waiting_for_a_result_of_another_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    polls: list[int] = []

    def on_poll() -> None:
        polls.append(1)
        if len(polls) == 2:
            finish(tmp_path, "a", "f")
            holder.communicate("\n")

    with Claims(tmp_path) as claims:
        assert claims.wait("a", "f", on_poll) is Claim.FINISHED and len(polls) >= 2


def test_waiting_for_a_process_that_leaves_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with Claims(tmp_path) as claims:
        assert claims.wait("a", "f", holder.kill) is Claim.MINE
