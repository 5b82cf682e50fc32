"""Size of the report of a 1,200-token job, and seconds until a browser shows it.

    report.py [--chromium /usr/bin/chromium] [--tokens 1200] [--samples 5] [--repeats 3]

The job is made up: two proteins, two strands of DNA and two ATP, random walks for coordinates, and a PAE of random
numbers, which is the worst there is for compression. Seconds are from the navigation to the second frame after the
structure is drawn, in a headless Chromium without a graphics card, a new browser each time; the worst counts. Other
programs at work on the machine count too: the load average is told beside the seconds.
Bounds: 6 MB and 5 s; the exit code is 1 where one is missed. Without a browser only the size is told.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformer import Conformer
from foldline.outputs.layout import PredictedJob, write_prediction
from foldline.outputs.modelcif import Provenance
from foldline.outputs.report.page import write_report
from foldline.structure.assemble import assemble
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.results import Confidences, Samples

MAX_BYTES, MAX_SECONDS = 6_000_000, 5.0
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
N_DNA, N_ATP = 39, 31  # tokens of a strand, and of an ATP


def no_conformer(component: Component) -> Conformer:
    """No reference positions: outputs read none."""
    n = len(component.atom_name)
    return Conformer(component.atom_name, np.zeros((n, 3), np.float32), np.ones(n, bool))


def complex_of(n_token: int, rng: np.random.Generator) -> tuple[list[EntitySpec], list[dict[str, object]]]:
    """Chains of the job, as entities and as the job's JSON has them; each protein with 500 aligned rows."""
    length = (n_token - 2 * N_DNA - 2 * N_ATP) // 2
    entities, sequences = [], []
    for name in "AB":
        letters = rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), (501, length))
        rows = ["".join(row) for row in np.where(rng.random(letters.shape) < 0.4, "-", letters)]
        query = "".join(letters[0])
        text = f">query\n{query}\n" + "".join(f">{i}\n{row}\n" for i, row in enumerate(rows[1:]))
        entities.append(EntitySpec("protein", (name,), query))
        protein = {"id": name, "sequence": query, "unpairedMsa": text, "pairedMsa": "", "templates": []}
        sequences.append({"protein": protein})
    for name in "CD":
        strand = "".join(rng.choice(list("ACGT"), N_DNA))
        entities.append(EntitySpec("dna", (name,), strand))
        sequences.append({"dna": {"id": name, "sequence": strand}})
    entities.append(EntitySpec("ligand", ("E", "F"), ccd_codes=("ATP",)))
    sequences.append({"ligand": {"id": ["E", "F"], "ccdCodes": ["ATP"]}})
    return entities, sequences


def tokens_of(topology: Topology) -> np.ndarray:
    """Token of every atom: one per residue of a polymer, one per atom of a ligand."""
    ligand = (topology.chain_kind[topology.res_chain] == "ligand")[topology.atom_res]
    new = ligand | np.diff(topology.atom_res, prepend=-1).astype(bool)
    return (np.cumsum(new) - 1).astype(np.int32)


def confidences(topology: Topology, n_token: int, rng: np.random.Generator) -> Confidences:
    """Random scores."""
    n_chain = len(topology.chain_id)
    pair = rng.uniform(0, 1, (n_chain, n_chain)).astype(np.float32)
    plddt = rng.uniform(20, 100, topology.n_atom).astype(np.float32)
    pae = rng.uniform(0.2, 31.8, (n_token, n_token)).astype(np.float32)
    score = float(rng.uniform())
    of_chain = pair.diagonal()
    return Confidences(
        plddt, pae, pae, float(plddt.mean()), score, score, 1.0, of_chain, of_chain, pair, pair, of_chain, False, score
    )  # fmt: skip


def made_up(folder: Path, n_token: int, n_sample: int) -> Path:
    """Write the result of the job."""
    rng = np.random.default_rng(0)
    components = Components.open()
    entities, sequences = complex_of(n_token, rng)
    topology = assemble(entities, [], components, no_conformer)
    tokens = tokens_of(topology)
    n_token = int(tokens.max()) + 1
    walk = np.cumsum(rng.normal(size=(n_sample, n_token, 3)) * 2.2, axis=1)[:, tokens]
    coordinates = (walk + rng.uniform(-1.5, 1.5, walk.shape)).astype(np.float32)
    scored = tuple(confidences(topology, n_token, rng) for _ in range(n_sample))
    samples = Samples(1, coordinates, np.zeros((n_token, n_token), np.float32), scored)
    job = {"dialect": "alphafold3", "version": 2, "name": "made_up", "modelSeeds": [1], "sequences": sequences}
    what = PredictedJob("made_up", topology, tokens, components, Provenance("0", "made up"))
    sizes = {"n_token": n_token, "n_atom": topology.n_atom, "samples": n_sample}
    write_prediction(folder, what, [samples], json.dumps(job), sizes)
    return folder


def seconds_to_show(chromium: str, page: Path) -> tuple[float, float, float]:
    """Seconds until the page has fired its load event, and until its structure is on the screen; the load average."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1440, "height": 900})
        start = time.perf_counter()
        opened.goto(page.as_uri())
        loaded = time.perf_counter() - start
        opened.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        opened.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shown = time.perf_counter() - start
        browser.close()
    return loaded, shown, os.getloadavg()[0]


def main() -> int:
    """Print the figures; 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium")
    parser.add_argument("--tokens", type=int, default=1200)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = made_up(Path(scratch) / "made_up", given.tokens, given.samples)
        start = time.perf_counter()
        page = write_report(folder)
        spent = time.perf_counter() - start
        size = page.stat().st_size
        source = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path != page)
        run = [] if given.chromium is None else [seconds_to_show(given.chromium, page) for _ in range(given.repeats)]
    print(f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"tokens {given.tokens}, samples {given.samples}, files of the result {source / 1e6:.1f} MB")
    print(f"written in {spent:.1f} s")
    print(f"size {size / 1e6:.2f} MB (bound {MAX_BYTES / 1e6:.0f} MB)")
    for loaded, shown, busy in run:
        bound = f"bound {MAX_SECONDS:.0f} s, load average {busy:.1f}"
        print(f"load event after {loaded:.2f} s, structure on the screen after {shown:.2f} s ({bound})")
    missed = size > MAX_BYTES or any(shown > MAX_SECONDS for _, shown, _ in run)
    print("bound missed" if missed else "within the bounds" if run else "size within its bound; no browser was given")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
