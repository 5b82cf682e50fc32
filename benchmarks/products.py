"""Products of the channels of a triangle multiplication on a CPU: all at once, and as one call after the other.

    products.py [--tokens 100 245 400 700 1000] [--channels 128] [--threads 1 2]

One row block of the size that a plan takes, fp32, median of some calls of each in turn. `foldline.ops.linear.product`
takes the first way below a number of multiplications, the second from there on; the last column tells which.
"""

import argparse
import statistics
import time

import torch

from foldline.engine.plan import work_sizes
from foldline.ops import linear, row_blocks

CALLS = 9


def measure(n_token: int, channels: int) -> tuple[float, float, str]:
    """Milliseconds at once and one after the other, and which of them `product` takes."""
    block = next(row_blocks(n_token, n_token, work_sizes(n_token, "cpu").pair)).stop
    a, b = torch.randn(1, channels, block, n_token), torch.randn(1, channels, n_token, n_token)
    kept, spent = linear._LEAST_APART, {False: [], True: []}
    for _ in range(CALLS):
        for apart, times in spent.items():
            linear._LEAST_APART = 0 if apart else 1 << 62
            start = time.perf_counter()
            linear.product(a, b)
            times.append(1e3 * (time.perf_counter() - start))
    linear._LEAST_APART = kept
    takes = "apart" if block * n_token**2 >= kept else "at once"
    return statistics.median(spent[False]), statistics.median(spent[True]), takes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[100, 245, 400, 700, 1000])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(f"ms, {args.channels} channels, torch {torch.__version__}, oneDNN for float32: {linear._ONEDNN}")
    print("threads  tokens  at once  apart  ratio  taken")
    for threads in args.threads:
        torch.set_num_threads(threads)
        for n_token in args.tokens:
            at_once, apart, takes = measure(n_token, args.channels)
            print(f"{threads:7}{n_token:8}{at_once:9.1f}{apart:7.1f}{apart / at_once:7.2f}  {takes}", flush=True)


if __name__ == "__main__":
    main()
