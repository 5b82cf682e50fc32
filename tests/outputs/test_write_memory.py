"""What writing a sample takes: bounded by the plan's term, and no biotite with its plotting library."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from foldline.engine.memory_model import writing_bytes
from foldline.engine.plan import Sizes, richest
from foldline.models.spec import PROTENIX_TINY
from foldline.outputs.layout import PredictedJob, SampleWriter
from foldline.structure.atoms import Topology
from foldline.structure.entities import EntitySpec
from foldline.tensors.results import Samples


def test_a_sample_is_written_in_the_planned_memory(
    tmp_path: Path,
    assembled: Callable[..., Topology],
    job_of: Callable[[Topology, str], PredictedJob],
    random_samples: Callable[[Topology, int, int], Samples],
) -> None:
    """1,200 tokens: what Python and numpy take beside the sample itself."""
    topology = assembled([EntitySpec("protein", ("A", "B"), "MKTAYIAKQRQISFVKSHFWRQLEERLGLI" * 20)])
    samples = random_samples(topology, 1, 1)
    pairs = samples.contact_probs.nbytes
    sizes = Sizes(n_token=len(samples.contact_probs), n_atom=topology.n_atom, n_msa=1, n_sample=1)
    planned = writing_bytes(sizes, richest(sizes, PROTENIX_TINY))
    writer = SampleWriter(tmp_path / "job", job_of(topology, "job"))
    tracemalloc.start()
    try:
        writer.write(samples)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < planned - 3 * pairs  # PAE, PDE and contacts are there already


def test_more_samples_than_the_writer_holds_need_no_more() -> None:
    spec, pairs = PROTENIX_TINY, 4 * 900**2
    sizes = [Sizes(900, 7200, 10, n_sample=n) for n in (1, 2, 3, 50)]
    one, two, three, many = (writing_bytes(s, richest(s, spec)) for s in sizes)
    assert two - one == three - two == 2 * pairs
    assert many == three


def test_writing_loads_no_biotite() -> None:
    """It takes 30 MB, and its plotting library complains of a home that cannot be written to."""
    code = "import sys, foldline.outputs.layout; sys.exit('biotite' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
