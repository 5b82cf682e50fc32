"""A job's line, the table of all, and the counts."""

from pathlib import Path

from foldline.cli.summary import MAX_ROWS, Row, count_of, job_line, plan_words, table, totals
from foldline.engine import Prediction
from foldline.engine.plan import Sizes, plan
from foldline.errors import DoesNotFit
from foldline.models.spec import PROTENIX_V1

NO_FIT = DoesNotFit(1, 2, 1, "no")
PLAN = plan(Sizes(256, 2560, 100, 5, 1), PROTENIX_V1, 1 << 40)


def prediction(name: str = "a", **more: object) -> Prediction:
    seconds = {"features": 0.5, "trunk": 1.0, "total": 1.75}
    known = {"directory": Path("out/a"), "n_token": 245, "n_atom": 1980, "ranking_score": 0.817, "plan": PLAN}
    return Prediction(name, **(known | {"seconds": seconds, "peak_bytes": 3 * 2**29} | more))  # pyright: ignore


def test_a_line_tells_sizes_plan_seconds_and_memory() -> None:
    words = plan_words(PLAN)
    assert words.startswith("bucket 256, fp32, ") and words.endswith(" at once")
    two = plan(Sizes(245, 2529, 100, 2, 2), PROTENIX_V1, 1 << 40)  # whose trunks run one after the other on a CPU
    assert (two.seed_batch, two.seed_group) == (1, 2) and "2 seeds and 4 samples at once" in plan_words(two)
    assert count_of(1, "seed") == "1 seed" and count_of(2, "seed") == "2 seeds" and count_of(0, "seed") == "0 seeds"
    assert job_line(prediction()) == (
        f"a: 245 tokens, 1980 atoms, {words}, best score 0.82, 1.8 s (features 0.5, trunk 1.0), peak 1.5 GiB -> out/a"
    )
    assert "done before" in job_line(prediction(skipped=True))


def test_the_table() -> None:
    rows = [Row.of(prediction()), Row.of(Prediction("b\n" + "x" * 60, error=NO_FIT)), Row.of(prediction(skipped=True))]
    lines = table(rows)
    assert lines[0].split() == ["job", "result", "tokens", "bucket", "score", "seconds", "peak", "GiB"]
    assert lines[1].split() == ["a", "done", "245", "256", "0.82", "1.8", "1.5"]
    assert lines[2].startswith("b?xxx") and "…  does_not_fit" in lines[2]
    assert lines[3].split()[:3] == ["a", "done", "before"]
    assert len({line.index("result") for line in lines[:1]} | {line.index("do") for line in lines[1:]}) == 1
    assert table([]) == []


def test_of_very_many_jobs_the_failed_are_shown() -> None:
    rows = [Row.of(prediction(f"j{i}", error=NO_FIT if i == 7 else None)) for i in range(MAX_ROWS + 1)]
    lines = table(rows)
    assert len(lines) == 3 and lines[1].startswith("j7 ") and lines[2].startswith(f"({MAX_ROWS} more jobs")


def test_the_counts() -> None:
    rows = [Row.of(prediction()), Row.of(prediction()), Row.of(prediction(skipped=True))]
    assert totals({"done": 3, "failed": 0, "not run": 1}, rows, 7.2) == "3 done, 1 not run; 7 s, 1000 jobs per hour"
    assert totals({"done": 1}, rows[:1], 7.2) == "1 done"
    assert totals({"done": 0}, [], 7.2) == "nothing done"
