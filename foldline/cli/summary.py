"""Finished jobs in words: a line for each, a table for all. Knows predictions, not where they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldline.engine import Prediction
    from foldline.engine.plan import Plan

MAX_ROWS, MAX_NAME = 40, 40
DONE, BEFORE = "done", "done before"
_COLUMNS = ("job", "result", "tokens", "bucket", "score", "seconds", "peak GiB")
_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def job_line(prediction: "Prediction") -> str:
    """A finished job in one line: sizes, plan, score, seconds by stage, peak memory, place."""
    if prediction.skipped:
        return f"{prediction.job_name}: done before with the same input and options -> {prediction.place}"
    parts = [f"{prediction.n_token} tokens, {prediction.n_atom} atoms"]
    if prediction.plan is not None:
        parts.append(plan_words(prediction.plan))
    if prediction.ranking_score is not None:
        parts.append(f"best score {prediction.ranking_score:.2f}")
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in prediction.seconds.items() if name != "total")
    total = _seconds(prediction)
    parts.append(f"{total:.1f} s ({stages})" if stages else f"{total:.1f} s")
    if prediction.peak_bytes:
        parts.append(f"peak {prediction.peak_bytes / 2**30:.1f} GiB")
    place = f" -> {prediction.place}" if prediction.place else ""
    return f"{prediction.job_name}: {', '.join(parts)}{place}"


def plan_words(plan: "Plan") -> str:
    """A plan in a few words: bucket, precisions, what runs at once."""
    names = dict.fromkeys(str(kind).removeprefix("torch.") for kind in plan.precisions)
    precision = "/".join(_DTYPES.get(name, name) for name in names)
    seeds = count_of(plan.own_groups * plan.seed_group, "seed")
    samples = count_of(plan.own_groups * plan.diffusion_batch, "sample")
    together = f"{seeds} and {samples} at once"
    return f"bucket {plan.bucket[0]}, {precision}, {together}"


def count_of(number: int, word: str) -> str:
    """A number of things in words: "1 seed", "2 seeds"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


@dataclass(frozen=True)
class Row:
    """One job in the table at the end."""

    job: str
    result: str  # done | done before | the code of an error
    failed: bool
    tokens: int
    bucket: int
    score: float | None
    seconds: float
    peak_bytes: int

    @classmethod
    def of(cls, prediction: "Prediction") -> "Row":
        """The row of a job."""
        error, plan = prediction.error, prediction.plan
        result = (BEFORE if prediction.skipped else DONE) if error is None else error.code
        return cls(
            prediction.job_name,
            result,
            error is not None,
            prediction.n_token,
            0 if plan is None else plan.bucket[0],
            prediction.ranking_score,
            _seconds(prediction),
            prediction.peak_bytes,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text; what is not known is empty."""
        name = self.job if len(self.job) <= MAX_NAME else f"{self.job[: MAX_NAME - 1]}…"
        return (
            "".join(letter if letter.isprintable() else "?" for letter in name),
            self.result,
            str(self.tokens or ""),
            str(self.bucket or ""),
            "" if self.score is None else f"{self.score:.2f}",
            f"{self.seconds:.1f}" if self.seconds else "",
            f"{self.peak_bytes / 2**30:.1f}" if self.peak_bytes else "",
        )


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table of jobs; of very many, those that failed."""
    shown = list(rows) if len(rows) <= MAX_ROWS else [row for row in rows if row.failed][:MAX_ROWS]
    if not shown:
        return []
    cells = [_COLUMNS, *(row.cells for row in shown)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))]
    lines = []
    for row in cells:
        words = [text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(words).rstrip())
    if len(shown) < len(rows):
        lines.append(f"({len(rows) - len(shown)} more jobs are in results.jsonl and failed.jsonl)")
    return lines


def totals(counts: Mapping[str, int], rows: Sequence[Row], seconds: float) -> str:
    """The counts in one line, with the throughput where several jobs were predicted."""
    line = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing done"
    predicted = sum(row.result == DONE for row in rows)
    if predicted > 1 and seconds >= 1:
        line += f"; {seconds:.0f} s, {3600 * predicted / seconds:.0f} jobs per hour"
    return line


def _seconds(prediction: "Prediction") -> float:
    return prediction.seconds.get("total", sum(prediction.seconds.values()))
