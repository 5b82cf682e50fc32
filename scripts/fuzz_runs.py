"""Random events at output folders, in folders and in stores, and after each one a look whether promises are kept.

    fuzz_runs.py [--seed S] [--sequences N] [--events N] [--minutes M] [--kind folder|files|memory] [--keep DIR]

Runs of a tiny random network, with other seeds and options, killed, on full and failing disks, beside one another, with
files changed by somebody else. A sequence is drawn from one number, which is printed with its events when a promise is
broken; what is looked at: tests/survival/promises.py. Exit code 1 when one was broken.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests" / "survival"), str(ROOT / "tests" / "network_cases")]

from chaos import Chaos  # noqa: E402
from faults import replayed  # noqa: E402
from places import References  # noqa: E402
from upstream_layout import small_network, state  # noqa: E402


def main() -> int:
    """Run sequences one after another; print those that break a promise, and a tally."""
    parser = argparse.ArgumentParser(description="Random events at output folders.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--events", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--kind", choices=("folder", "files", "memory"))
    parser.add_argument("--keep", type=Path, help="folder that is left as it is when a promise is broken")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin, broken, events, done = time.monotonic(), [], 0, 0
    with tempfile.TemporaryDirectory() as name, replayed() as replay:
        folder = Path(name)
        torch.save({"model": state(small_network(), "module.")}, folder / "small.pt")
        references = References(folder / "references", folder / "small.pt", replay)
        references.commands.folder.mkdir()
        for seed in range(args.seed, args.seed + args.sequences):
            if time.monotonic() - begin > 60 * args.minutes:
                break
            place = folder / f"sequence-{seed}"
            place.mkdir()
            chaos = Chaos(seed, place, references, args.kind)
            try:
                chaos.run(args.events)
            except Exception:  # noqa: BLE001 - whatever it is, the next sequence is another
                broken.append(seed)
                print(traceback.format_exc(), flush=True)
                if args.keep is not None:
                    shutil.copytree(place, args.keep / str(seed), dirs_exist_ok=True)
            done, events = done + 1, events + chaos.count
            shutil.rmtree(place)
    print(f"{done} sequences, {events} events in {time.monotonic() - begin:.0f} s; broken: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
