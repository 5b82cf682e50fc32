"""Kill `foldline predict` at random moments, many times over: nothing finished is lost, nothing is half-written.

    python benchmarks/kills.py [--kills 100] [--seed 0] [--jobs 6] [--whole] [--shared] [--threads 1]
                               [--write FILE]

The smallest random network on a CPU; a process of its own for every run, killed with SIGKILL at a moment drawn evenly
from its whole life; half of the runs make results, the other half replaces some. The process is a fork of one that has
run before, so that its life is all work; with --whole it is a new interpreter, most of whose life goes into imports.
What is looked at after each kill: tests/survival/killing.py. With --shared, jobs and seeds share forward passes, and
files are compared up to the last digits of their numbers. With --shared --threads 2 jobs run beside each other too, in
a new interpreter each time.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "survival"), str(ROOT / "tests" / "network_cases")]

from killing import ALONE, Forked, Replacer, Tally, Tormentor, start  # noqa: E402
from upstream_layout import small_network, state  # noqa: E402


def main() -> int:
    """Print every kill and the tally; an AssertionError tells what was broken."""
    parser = argparse.ArgumentParser(description="Kill foldline predict at random moments.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.set_num_threads(1)
        torch.save({"model": state(small_network(), "module.")}, folder / "small.pt")
        more = {"jobs": args.jobs, "options": () if args.shared else ALONE}
        more |= {"starter": start if args.whole or args.threads > 1 else Forked, "threads": args.threads}
        lines = []
        for kind, kills in ((Tormentor, args.kills - args.kills // 2), (Replacer, args.kills // 2)):
            place = folder / kind.__name__
            place.mkdir()
            tormentor = kind(place, folder / "small.pt", **more)
            tally = tormentor.run(kills, args.seed, lambda text: print(text, flush=True))
            lines += told(tally, replacing=kind is Replacer, equal="alike" if args.shared else "byte for byte")
    lines += [
        f"{args.kills} kills (SIGKILL) in {time.monotonic() - begin:.0f} s; {args.jobs} jobs of 2 seeds and 2 samples",
        "finished files lost: 0; half-written files under a final name: 0; jobs listed twice, or without a result: 0",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.write:
        args.write.parent.mkdir(parents=True, exist_ok=True)
        args.write.write_text(text)
    return 0


def told(tally: Tally, *, replacing: bool, equal: str) -> list[str]:
    """What kills of one kind met."""
    if not tally.moments:
        return []
    what = "runs that replace results, new files" if replacing else "runs that make results, files"
    return [
        f"{tally.kills} kills of {what} after a kill: none {tally.before_any_file}, some {tally.in_the_midst}, all "
        f"{tally.after_all_files}; jobs amid a swap: {tally.amid_a_swap}; scratch files left: {tally.half_files_seen}",
        f"  a life is {tally.life:.1f} s, kills came after {min(tally.moments):.2f} to {max(tally.moments):.2f} s; "
        f"runs that ended before: {tally.too_late}",
        f"  {tally.finished_runs} runs left alone afterwards ended {equal} as one that was never killed, apart from "
        "seconds and peak memory in <job>_run.json",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
