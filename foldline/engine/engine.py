"""Engine: one loaded checkpoint, jobs in, predictions out. A job that fails is a Prediction with an error."""

import hashlib
import json
import weakref
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from foldline.config import EngineConfig
from foldline.engine.group import Group, Lane
from foldline.engine.job_run import Prediction
from foldline.engine.ladder import run_lanes
from foldline.engine.plan import Plan, Process, Sizes, plan
from foldline.engine.prepare import Prepared, Preparer
from foldline.engine.queue import Queue, executor_of
from foldline.engine.record import available_bytes, available_threads
from foldline.engine.residency import Residency
from foldline.engine.runner import Results, Run, RunOptions, SeedResult, most_msa_rows
from foldline.engine.schedule import BUCKETS, Throughput, in_order
from foldline.errors import InputError
from foldline.execute import Children, Event, StopRequest, ignore
from foldline.execute import Progress as Listener
from foldline.heap import has_caches
from foldline.limits import processors
from foldline.models import Network
from foldline.ops.linear import keeps_kernels
from foldline.remote import as_url
from foldline.sampler import Draws
from foldline.tensors import Features
from foldline.weights.card import read_card
from foldline.weights.load import open_model
from foldline.weights.registry import checkpoint_path

if TYPE_CHECKING:
    from foldline.chem.component import Component
    from foldline.features.featuriser import Featuriser
    from foldline.inputs import Job
    from foldline.outputs.layout import SampleWriter
    from foldline.search.ahead import JobSearch

MOST_CHILDREN = 4  # processes that featurise for an accelerator where none are asked for


class Engine:
    """A checkpoint on a device.

    Weights are read when the first job needs them and stay; a job that runs in another precision has the stages
    concerned read again. `throughput` tells how fast the jobs of the latest call went.
    """

    def __init__(self, model: str | Path | None = None, *, config: EngineConfig | None = None) -> None:
        """`model` is a registry name or a path; it replaces the one in `config`.

        Raises:
            InputError: the device is not there.
            WeightsError: the checkpoint is unknown, unreadable or of another family.
        """
        self.config = config or EngineConfig()
        self.model = str(model or self.config.model)
        self.device = _device(self.config.device)
        self.path = checkpoint_path(self.model, cache_dir=self.config.cache_dir)
        self.checkpoint, self.spec = open_model(self.path)
        self.throughput = Throughput()
        threads = available_threads(self.config.threads)
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        self._cached_heap = self.device.type == "cpu" and has_caches()
        self._residency: Residency | None = None
        self._kernels: set[tuple[Sizes, int, int]] = set()  # sizes, seeds and threads of the groups that have run
        self._kernels_beside: set[tuple[Sizes, int, int]] = set()  # of jobs beside each other
        self._sha256: str | None = None
        self._featuriser: Featuriser | None = None
        self._children = Children(self._n_children())
        weakref.finalize(self, self._children.close)

    @property
    def checkpoint_sha256(self) -> str:
        """SHA-256 of the checkpoint file, read once."""
        if self._sha256 is None:
            self._sha256 = self.checkpoint.sha256()
        return self._sha256

    @property
    def network(self) -> Network:
        """The network, with those weights that are on the device now."""
        return self._weights().network

    def predict(
        self,
        jobs: "Iterable[Job]",
        *,
        out: Path | str | None = None,
        draws: Draws | None = None,
        progress: Listener = ignore,
        stop: StopRequest | None = None,
    ) -> Generator[Prediction, None, None]:
        """Predict jobs, all seeds of each, small jobs of one bucket together; a prediction per job as it ends.

        The jobs of a list are run bucket by bucket, buckets in the order of their first jobs and jobs of a bucket in
        the order given; without buckets (on a CPU) all come in the order given. Jobs that another process is at come
        last, when it is done with them.

        Args:
            jobs: validated jobs.
            out: output folder, or the URL of one in a store; None keeps the samples and writes nothing.
            draws: random draws that replace those of the seed (a `Tape`); for jobs with one seed.
            progress: called with events, from several threads.
            stop: somebody's wish to end the run; what is being written is finished first.

        Raises:
            WriteError: the store cannot be used.
        """
        from foldline.outputs.claims import Claims

        if url := as_url(out):
            yield from self._into_store(url, jobs, draws, progress, stop)
            return
        folder = None if out is None else Path(out)
        stop, jobs = stop or StopRequest(), in_order(jobs, self.buckets)
        with ExitStack() as stack:
            claims = stack.enter_context(Claims(folder))
            executor = stack.enter_context(executor_of(self.config, self._children.count))
            search = self._search(jobs, progress, stop)
            if search is not None:
                stack.enter_context(closing(search))
            self.throughput = Throughput()
            queue = Queue(self, self._preparer(folder, draws, progress, search), claims, draws, progress, stop)
            yield from queue.run(jobs, executor)

    def _into_store(
        self, url: str, jobs: "Iterable[Job]", draws: Draws | None, progress: Listener, stop: StopRequest | None
    ) -> Generator[Prediction, None, None]:
        """See `predict`."""
        from foldline.engine.carry import into_store

        with into_store(url, self.config.work_root, progress) as carrier:
            jobs, out = carrier.bring(jobs), carrier.store.folder
            with closing(self.predict(jobs, out=out, draws=draws, progress=carrier.progress, stop=stop)) as made:
                yield from carrier.carried(made)

    def predict_features(
        self, features: Features, draws: Draws, progress: Listener = ignore
    ) -> tuple[SeedResult, Plan]:
        """Predict one seed from features alone: what a machine without chemistry libraries can run."""
        results, seconds, lane = Results(), {}, Lane(features, draws)
        run = self.runner(results, progress)
        best = self.plan_for(features, n_msa_drawn=most_msa_rows([lane], run.passes, self.spec.max_msa))

        def on_group(group: Group) -> None:
            seconds.update(group.seconds)
            self.has_run(best, group)

        chosen = run_lanes(
            run,
            [lane],
            best,
            self.memory_bytes,
            on_rung=lambda rung: progress(Event("features", rung.stage, message=str(rung))),
            on_group=on_group,
        )
        return results.of(lane, seconds, run), chosen

    def plan_for(self, features: Features, n_seed: int = 1, n_msa_drawn: int | None = None) -> Plan:
        """The plan of a job on this device, without padding beyond what the features have."""
        sizes = features.sizes
        return self.plan_of((sizes["N_token"], sizes["N_atom"]), sizes["N_msa"], n_seed, n_msa_drawn)

    def plan_of(
        self,
        bucket: tuple[int, int],
        n_msa: int,
        n_seed: int,
        n_msa_drawn: int | None = None,
        beside: tuple[Sizes, ...] = (),
    ) -> Plan:
        """The plan for `n_seed` seeds of jobs of a bucket (tokens, atoms).

        A pass reads `n_msa_drawn` of the `n_msa` alignment rows at most, or any number of them (None). Jobs of the
        sizes `beside` may run beside these.
        """
        n_seed = min(n_seed, self.config.seed_batch or n_seed)
        sizes = Sizes(*bucket, n_msa, self.config.samples, n_seed, n_msa_drawn)
        keeps = self.device.type == "cpu" and keeps_kernels(self._dtype())
        threads = torch.get_num_threads()
        own, others = _sets(self._kernels, sizes), _sets(self._kernels_beside, sizes)
        noted = {of for of, *_ in tuple(self._kernels_beside)}
        others += len({_of_kernels(one) for one in beside[: threads - 1]} - noted - {_of_kernels(sizes)})  # that come
        return plan(
            sizes,
            self.spec,
            self.memory_bytes,
            dtype=self._dtype(),
            device=self.device.type,
            threads=threads,
            process=Process(own if keeps else 0, others if keeps else 0, self._cached_heap),
            beside=beside,
        )

    def has_run(self, chosen: Plan, group: Group) -> None:
        """Note a group that a plan runs or has run: later plans count what its products leave behind."""
        asked, beside = chosen.request, bool(chosen.request.beside)
        threads = max(1, asked.threads // (chosen.side_by_side if beside else group.n_abreast))
        run = self._kernels_beside if beside else self._kernels
        run.add((_of_kernels(asked.sizes), len(group.lanes), threads))

    @property
    def memory_bytes(self) -> int:
        """Device memory that plans may use."""
        return self.config.max_memory or available_bytes(self.device)

    @property
    def buckets(self) -> Sequence[int]:
        """Token counts that jobs are padded to: AlphaFold 3's on an accelerator, none on a CPU, or those asked for."""
        if self.config.buckets is not None:
            return self.config.buckets
        return () if self.device.type == "cpu" else BUCKETS

    @property
    def options(self) -> RunOptions:
        """The run options of the configuration."""
        c = self.config
        return RunOptions(
            n_sample=c.samples,
            n_recycle=c.recycles,
            n_step=c.steps,
            mc_dropout=c.mc_dropout,
            save_embeddings=c.save_embeddings,
        )

    def runner(self, results: Results | None = None, progress: Listener = ignore) -> Run:
        """What takes groups of seeds through the network; `results` collects what comes of them."""
        weights = self._weights()
        run = Run(weights.network, self.options, self.device, weights=weights.bring)
        if results is None:
            return run
        return Run(
            weights.network,
            self.options,
            self.device,
            on_sample=results.on_sample,
            on_embeddings=results.on_embeddings,
            progress=lambda lanes, stage, done, total: progress(
                Event("features", stage, step=done, total=total, seed=lanes[0].draws.seed)
            ),
            weights=weights.bring,
        )

    def writer(self, prepared: Prepared) -> "SampleWriter":
        """What writes a job's files; a result that is there stays until the new one is whole."""
        from foldline import __version__
        from foldline.outputs.journal import unlist
        from foldline.outputs.kept import kept_samples
        from foldline.outputs.layout import PredictedJob, SampleWriter
        from foldline.outputs.modelcif import Provenance

        directory, featurised = prepared.directory, prepared.featurised
        assert directory is not None and featurised is not None
        components = self._features().components
        what = PredictedJob(
            name=prepared.name,
            topology=featurised.made.topology,
            atom_to_token=featurised.made.features.atom_to_token,
            components=components.with_user(featurised.user) if featurised.user else components,
            provenance=Provenance(__version__, self.model, self.checkpoint_sha256),
            ligands=_smiles_components(prepared.job),
        )
        seeds = () if self.config.overwrite else prepared.job.seeds
        return SampleWriter(
            directory,
            what,
            fingerprint=prepared.fingerprint,
            seedless=prepared.seedless,
            kept=kept_samples(directory, prepared.name, prepared.seedless, seeds),
            seeds=seeds,
            before_swap=lambda: unlist(directory.parent, prepared.name),
        )

    def identity(self) -> dict[str, object]:
        """Version, device, checkpoint and what of the configuration a record tells."""
        from foldline import __version__

        return {
            "foldline": __version__,
            "torch": torch.__version__,
            "device": str(self.device),
            "model": self.model,
            "family": self.spec.family,
            "checkpoint_sha256": self.checkpoint_sha256,
            "msa": self.config.msa,
        }

    def _preparer(
        self, out: Path | None, draws: Draws | None, progress: Listener, search: "JobSearch | None"
    ) -> Preparer:
        """What makes features of jobs for one call of `predict`."""
        return Preparer(
            featuriser=self._features(),
            fingerprint=lambda digest: self._fingerprint(digest, draws),
            out=out,
            overwrite=self.config.overwrite,
            children=self._children if self._children.count else None,
            progress=progress,
            search=search,
            notes=read_card(self.checkpoint.metadata, str(self.path)).notes,
        )

    def _search(self, jobs: "Iterable[Job]", progress: Listener, stop: StopRequest) -> "JobSearch | None":
        """What gives jobs the alignments that they lack, where databases are configured and wanted."""
        if self.config.msa == "none" or self.config.stage == "infer" or not self.config.search:
            return None
        from foldline.search.ahead import job_search

        known = jobs if isinstance(jobs, Sequence) else ()
        table = {**self.config.search, "family": self.spec.family}
        templates = self.spec.n_template > 0
        root = self.config.cache_root
        return job_search(table, root, known, progress=progress, check=stop.check, templates=templates)

    def _n_children(self) -> int:
        """Processes that featurise: some for an accelerator, none on a CPU, whose time is the network's."""
        if self.config.workers is not None:
            return self.config.workers
        return 0 if self.device.type == "cpu" else max(1, min(MOST_CHILDREN, processors() - 1))

    def _dtype(self) -> torch.dtype:
        names = {"fp32": torch.float32, "bf16": torch.bfloat16}
        if self.config.dtype == "auto":
            return torch.bfloat16 if self.device.type == "cuda" else torch.float32
        return names[self.config.dtype]

    def _features(self) -> "Featuriser":
        """What featurises in this process, and holds the component dictionary."""
        from foldline.features.featuriser import Featuriser

        if self._featuriser is None:
            msa = "none" if self.config.msa == "none" else "auto"
            self._featuriser = Featuriser(self.config.cache_dir, msa)
        return self._featuriser

    def _weights(self) -> Residency:
        if self._residency is None:
            self._residency = Residency(self.spec, self.checkpoint, self.device)
        return self._residency

    def _fingerprint(self, digest: str, draws: Draws | None) -> str:
        """Hash of all that decides a result: job (its JSON's digest), options, draws, checkpoint and version."""
        from foldline import __version__

        c = self.config
        options = [c.samples, c.recycles, c.steps, c.mc_dropout and self.spec.mc_dropout, c.msa, c.save_embeddings]
        options += [str(self._dtype()), self.device.type, None if draws is None else draws.digest]
        text = json.dumps([digest, options, self.checkpoint_sha256, __version__])
        return hashlib.sha256(text.encode()).hexdigest()


def _of_kernels(sizes: Sizes) -> Sizes:
    """What of a job's sizes decides which kernels its groups leave behind: hardly how many rows its passes read."""
    return replace(sizes, n_seed=1, n_msa_drawn=None)


def _sets(run: set[tuple[Sizes, int, int]], sizes: Sizes) -> int:
    """Sets of kernels that are kept, without the one that a job of these sizes makes itself or finds there."""
    own = _of_kernels(sizes)
    return len(run) - any(of == own for of, *_ in tuple(run))


def _smiles_components(job: "Job") -> "dict[str, Component]":
    """Components of the ligands that are given as SMILES, which no dictionary has."""
    from foldline.chem.smiles import component_of_text

    given = [entity for entity in job.entities if getattr(entity, "smiles", None) is not None]
    codes = {f"LIG_{entity.ids[0]}": str(entity.smiles) for entity in given}  # type: ignore[union-attr]
    return {code: component_of_text(text, code) for code, text in codes.items()}


def _device(name: str) -> torch.device:
    """The device of that name, or the best there is for "auto"."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"there is no device {name} on this machine; use --device cpu or auto", path="--device")
    return device
