"""Engine: one loaded checkpoint, jobs in, predictions out. A job that fails is a Prediction with an error."""

import hashlib
import json
import os
import resource
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from foldline.config import EngineConfig
from foldline.engine.plan import Plan, Sizes, plan
from foldline.engine.runner import RunOptions, SeedResult, run_seed
from foldline.errors import DoesNotFit, FoldlineError, InputError, InternalError, WriteError, during
from foldline.execute import Event, InProcess, StopRequest, ignore
from foldline.execute import Progress as Listener
from foldline.models import Network
from foldline.sampler import Draws
from foldline.tensors import Features, Samples
from foldline.weights.load import open_model
from foldline.weights.registry import checkpoint_path

if TYPE_CHECKING:
    from foldline.chem.components import Components
    from foldline.chem.conformers import Conformers
    from foldline.features.build import FeatureSet
    from foldline.inputs import Job
    from foldline.outputs.claims import Claims
    from foldline.outputs.layout import SampleWriter


@dataclass(frozen=True)
class Prediction:
    """The result of one job, or the error that it ended in."""

    job_name: str
    directory: Path | None = None
    error: FoldlineError | None = None
    skipped: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    n_token: int = 0
    n_atom: int = 0
    plan: Plan | None = None
    warnings: tuple[str, ...] = ()
    ranking_score: float | None = None
    samples: tuple[Samples, ...] = ()


@dataclass
class _Prepared:
    """A job with all that was made of it before the network."""

    job: "Job"
    name: str
    directory: Path | None
    data_json: str = ""
    fingerprint: str = ""
    finished: bool = False
    components: "Components | None" = None
    made: "FeatureSet | None" = None
    error: FoldlineError | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def without_features(self) -> "_Prepared":
        """What is needed to wait for another process."""
        return replace(self, data_json="", components=None, made=None)


class _Turn(NamedTuple):
    """What is the same for all jobs of one call of `predict`."""

    draws: Draws | None
    progress: Listener
    stop: StopRequest
    claims: "Claims"


class Engine:
    """A checkpoint on a device.

    Weights are read when the first job needs them and stay; a job that runs in another precision has the stages
    concerned read again.
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
        self.network: Network | None = None
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        self._loaded: dict[str, torch.dtype] = {}
        self._sha256: str | None = None
        self._conformers: Conformers | None = None

    @property
    def checkpoint_sha256(self) -> str:
        """SHA-256 of the checkpoint file, read once."""
        if self._sha256 is None:
            self._sha256 = self.checkpoint.sha256()
        return self._sha256

    def predict(
        self,
        jobs: "Iterable[Job]",
        *,
        out: Path | str | None = None,
        draws: Draws | None = None,
        progress: Listener = ignore,
        stop: StopRequest | None = None,
    ) -> Generator[Prediction, None, None]:
        """Predict jobs one after another. Jobs that another process is at come last, when it is done with them.

        Args:
            jobs: validated jobs.
            out: output folder; None keeps the samples in the predictions and writes nothing.
            draws: random draws that replace those of the seed (a `Tape`); for jobs with one seed.
            progress: called with events.
            stop: somebody's wish to end the run; what is being written is finished first.
        """
        from foldline.outputs.claims import Claims

        folder = None if out is None else Path(out)
        with Claims(folder) as claims, InProcess(self.config.ahead) as executor:
            turn = _Turn(draws, progress, stop or StopRequest(), claims)
            left: list[_Prepared] = []
            for future in executor.map(lambda job: self._prepare(job, folder, turn), jobs):
                prepared = future.result()
                prediction = self._finish(prepared, turn)
                if prediction is None:
                    left.append(prepared.without_features())
                    del prepared
                else:
                    yield prediction
            for prepared in left:
                yield self._after_another(prepared, folder, turn)

    def predict_features(
        self, features: Features, draws: Draws, progress: Listener = ignore
    ) -> tuple[SeedResult, Plan]:
        """Predict one seed from features alone: what a machine without chemistry libraries can run."""
        chosen = self.plan_for(features)
        return self._run(features, draws, chosen, "features", progress), chosen

    def plan_for(self, features: Features) -> Plan:
        """The plan of a job on this device."""
        sizes = features.sizes
        return plan(
            Sizes(sizes["N_token"], sizes["N_atom"], sizes["N_msa"], self.config.samples),
            self.spec,
            self.config.max_memory or available_bytes(self.device),
            dtype=self._dtype(),
            device=self.device.type,
        )

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

    def _dtype(self) -> torch.dtype:
        names = {"fp32": torch.float32, "bf16": torch.bfloat16}
        if self.config.dtype == "auto":
            return torch.bfloat16 if self.device.type == "cuda" else torch.float32
        return names[self.config.dtype]

    def _after_another(self, prepared: "_Prepared", out: Path | None, turn: "_Turn") -> Prediction:
        """The prediction of a job that another process was at: its result, or ours where it left none."""
        from foldline.outputs.claims import Claim

        job, progress = prepared.job, turn.progress
        progress(Event(job.name, "wait", message="waiting for the process that is at it"))
        try:
            claim = turn.claims.wait(prepared.name, prepared.fingerprint, lambda: progress(Event(job.name, "wait")))
        except OSError as error:
            return Prediction(job.name, error=_not_written(error))
        if claim is Claim.FINISHED:
            note = "it was predicted by another process while this one ran"
            return Prediction(job.name, prepared.directory, skipped=True, warnings=(note,))
        prediction = self._finish(self._prepare(job, out, turn), turn)
        assert prediction is not None
        return prediction

    def _prepare(self, job: "Job", out: Path | None, turn: "_Turn") -> "_Prepared":
        """Everything of a job that needs no network; runs ahead of it. Errors are kept for the job's turn."""
        from foldline.inputs import slug, to_json
        from foldline.outputs.layout import is_finished

        start = time.perf_counter()
        name = slug(job.name)
        directory = None if out is None else out / name
        prepared = _Prepared(job, name, directory)
        try:
            with during("features"):
                prepared.data_json = to_json(job, inline=True)
                prepared.fingerprint = self._fingerprint(prepared.data_json, turn.draws)
                if directory is not None and not self.config.overwrite:
                    prepared.finished = is_finished(directory, name, prepared.fingerprint)
                if not prepared.finished:
                    turn.progress(Event(job.name, "features"))
                    prepared.components = self._components(job)
                    prepared.made = self._features(job, prepared.components)
        except FoldlineError as error:
            prepared.error = error
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            prepared.error = InternalError(error)
        prepared.seconds = {"features": round(time.perf_counter() - start, 4)}
        return prepared

    def _finish(self, prepared: "_Prepared", turn: "_Turn") -> Prediction | None:
        """A prepared job's prediction; None where another process is at the job."""
        from foldline.outputs.claims import Claim

        job = prepared.job
        if prepared.error is not None:
            return Prediction(job.name, error=prepared.error)
        try:
            claim = turn.claims.take(prepared.name, prepared.fingerprint, overwrite=self.config.overwrite)
            if claim is Claim.BUSY:
                turn.progress(Event(job.name, "wait", message="left to another process that is at it"))
                return None
            if claim is Claim.FINISHED or prepared.made is None:
                return Prediction(job.name, prepared.directory, skipped=True)
            features = self._padded(prepared.made.features)
            with during("plan"):
                if turn.draws is not None and len(job.seeds) != 1:
                    raise InputError(
                        f"recorded draws replay one seed, the job has {len(job.seeds)}", path="$.modelSeeds"
                    )
                chosen = self.plan_for(features)
            turn.progress(Event(job.name, "plan", message=describe(features, chosen)))
            return self._run_seeds(prepared, features, chosen, turn)
        except FoldlineError as error:
            return Prediction(job.name, error=error)
        except OSError as error:
            return Prediction(job.name, error=_not_written(error))
        except torch.OutOfMemoryError:
            free = self.config.max_memory or available_bytes(self.device)
            hint = "the device ran out of memory; set --max-memory below what other programs leave free"
            return Prediction(job.name, error=DoesNotFit(features.n_token, chosen.peak_bytes, free, hint))
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job is no reason to lose the others
            return Prediction(job.name, error=InternalError(error))
        finally:
            turn.claims.give_back(prepared.name)

    def _run_seeds(self, prepared: "_Prepared", features: Features, chosen: Plan, turn: "_Turn") -> Prediction:
        """All seeds of a job, written as they come."""
        start = time.perf_counter()
        job, made, seconds = prepared.job, prepared.made, dict(prepared.seconds)
        assert made is not None
        writer = None if prepared.directory is None else self._writer(prepared)
        results: list[SeedResult] = []
        for seed in job.seeds:
            c = self.config
            if writer is not None and writer.has_seed(seed, c.samples, embeddings=c.save_embeddings):
                continue
            result = self._run(features, turn.draws or Draws(seed), chosen, job.name, turn.progress)
            begin = time.perf_counter()
            if writer is not None:
                turn.progress(Event(job.name, "write", seed=seed))
                samples = replace(result.samples, seed=seed)
                with turn.stop.kept_whole():
                    writer.write(samples)
                    if result.embeddings is not None:
                        writer.write_embeddings(seed, result.embeddings)
                result = replace(result, samples=replace(samples, confidences=()), embeddings=None)
            result.seconds["write"] = round(time.perf_counter() - begin, 4)
            results.append(result)
        for result in results:
            for stage, spent in result.seconds.items():
                seconds[stage] = round(seconds.get(stage, 0.0) + spent, 4)
        seconds["total"] = round(time.perf_counter() - start + prepared.seconds["features"], 4)
        notes = (*job.notes, *made.notes)
        kept = () if writer is not None else tuple(result.samples for result in results)
        best = max((c.ranking_score for s in kept for c in s.confidences), default=None)
        peak = peak_bytes(self.device)
        if writer is not None:
            record = self._record(chosen, results, seconds, peak, notes, features)
            with turn.stop.kept_whole():
                best = writer.finish(prepared.data_json, record, job.seeds).ranking_score
        return Prediction(
            job.name,
            prepared.directory,
            seconds=seconds,
            peak_bytes=peak,
            n_token=features.n_token,
            n_atom=features.n_atom,
            plan=chosen,
            warnings=notes,
            ranking_score=best,
            samples=kept,
        )

    def _padded(self, features: Features) -> Features:
        """Features grown to the smallest bucket that holds them; none on a CPU unless buckets are asked for."""
        fitting = [bucket for bucket in self.config.buckets or () if bucket >= features.n_token]
        if not fitting:
            return features
        return features.pad_to(N_token=fitting[0], N_atom=-(-features.n_atom // 128) * 128)

    def _components(self, job: "Job") -> "Components":
        """The component dictionary with the job's own components on top."""
        from foldline.chem.components import Components
        from foldline.chem.user_ccd import read_user_ccd
        from foldline.inputs import read_text

        components = Components.open(self.config.cache_dir)
        if job.user_ccd is None:
            return components
        text = read_text(job.user_ccd, "userCCD")
        return components.with_user(read_user_ccd(text))

    def _features(self, job: "Job", components: "Components") -> "FeatureSet":
        from foldline.chem.conformers import Conformers
        from foldline.features.build import build_features

        if self._conformers is None:
            self._conformers = Conformers(cache_dir=self.config.cache_dir)
        msa = "none" if self.config.msa == "none" else "auto"
        return build_features(job, components=components, conformers=self._conformers, msa=msa)

    def _writer(self, prepared: "_Prepared") -> "SampleWriter":
        from foldline import __version__
        from foldline.outputs.layout import PredictedJob, SampleWriter, remove_result
        from foldline.outputs.modelcif import Provenance

        directory, made = prepared.directory, prepared.made
        assert directory is not None and made is not None and prepared.components is not None
        if self.config.overwrite and directory.is_dir():
            remove_result(directory, prepared.name)
        what = PredictedJob(
            name=prepared.name,
            topology=made.topology,
            atom_to_token=made.features.atom_to_token,
            components=prepared.components,
            provenance=Provenance(__version__, self.model, self.checkpoint_sha256),
        )
        return SampleWriter(directory, what, fingerprint=prepared.fingerprint)

    def _run(self, features: Features, draws: Draws, chosen: Plan, name: str, progress: Listener) -> SeedResult:
        def on_progress(stage: str, done: int, total: int) -> None:
            progress(Event(name, stage, step=done, total=total, seed=draws.seed))

        network = self._network()
        if not chosen.staged_weights:
            for stage in STAGES:
                self._bring(stage, chosen)

        def weights(stage: str) -> None:
            if chosen.staged_weights:
                for other in STAGES:
                    if other != stage:
                        self._drop(other)
                self._bring(stage, chosen)

        return run_seed(
            network,
            features,
            draws,
            chosen,
            self.options,
            device=self.device,
            progress=on_progress,
            weights=weights,
        )

    def _network(self) -> Network:
        if self.network is None:
            with torch.device("meta"):
                self.network = Network(self.spec)
        return self.network

    def _bring(self, stage: str, chosen: Plan) -> None:
        """Have a stage's weights on the device in the plan's precision."""
        from foldline.weights.load import load_parameters

        dtype = chosen.dtype_of(f"{stage}.z")
        if self._loaded.get(stage) != dtype:
            names = STAGES[stage]
            load_parameters(self._network(), self.checkpoint, names, dtype_of=chosen.dtype_of, device=self.device)
            self._loaded[stage] = dtype

    def _drop(self, stage: str) -> None:
        """Give a stage's weights back."""
        if self._loaded.pop(stage, None) is not None:
            for name in STAGES[stage]:
                self._network().get_submodule(name).to("meta")

    def _fingerprint(self, data_json: str, draws: Draws | None) -> str:
        """Hash of all that decides a result: job, options, recorded draws, checkpoint and version."""
        from foldline import __version__

        c = self.config
        options = [c.samples, c.recycles, c.steps, c.mc_dropout and self.spec.mc_dropout, c.msa, c.save_embeddings]
        options += [str(self._dtype()), self.device.type, None if draws is None else draws.digest]
        text = json.dumps([data_json, options, self.checkpoint_sha256, __version__])
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(
        self,
        chosen: Plan,
        results: list[SeedResult],
        seconds: dict[str, float],
        peak: int,
        notes: tuple[str, ...],
        features: Features,
    ) -> dict[str, object]:
        """What `<job>_run.json` says."""
        from foldline import __version__

        spec, options = self.spec, self.options
        recycles = spec.n_recycle if options.n_recycle is None else options.n_recycle
        return {
            "foldline": __version__,
            "torch": torch.__version__,
            "device": str(self.device),
            "model": self.model,
            "family": spec.family,
            "checkpoint_sha256": self.checkpoint_sha256,
            "n_token": features.n_token,
            "n_atom": features.n_atom,
            "n_msa": int(features.msa_mask.sum()),
            "trunk_passes": recycles + 1,
            "steps": options.n_step or spec.sampler.n_step,
            "samples": options.n_sample,
            "mc_dropout": options.mc_dropout,
            "msa": self.config.msa,
            "plan": chosen.record(),
            "seconds": seconds,
            "seconds_per_seed": [{"seed": r.samples.seed} | r.seconds for r in results],
            "peak_bytes": peak,
            "warnings": list(notes),
        }


STAGES = {"trunk": ("trunk", "distogram"), "diffusion": ("diffusion",), "confidence": ("confidence",)}


def _not_written(error: OSError) -> WriteError:
    return WriteError(f"the result cannot be written: {error.strerror or error}")


def describe(features: Features, chosen: Plan) -> str:
    """The plan in one line."""
    kinds = {
        str(d).removeprefix("torch.") for d in (chosen.trunk_dtype, chosen.diffusion_dtype, chosen.confidence_dtype)
    }
    extras = [
        "biases kept" if chosen.keep_biases else "biases made at each step",
        "weights by stage" if chosen.staged_weights else "weights resident",
        *(["z put away while sampling"] if chosen.park_pair else []),
        f"{chosen.diffusion_batch} samples at once",
    ]
    size = f"{features.n_token} tokens, {features.n_atom} atoms"
    return f"{size}, {'/'.join(sorted(kinds))}, {', '.join(extras)}, about {chosen.peak_bytes / 2**30:.1f} GiB"


def available_bytes(device: torch.device) -> int:
    """Memory that a plan may use: what is free on an accelerator, nine tenths of the machine's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process so far: allocated on an accelerator, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device(name: str) -> torch.device:
    """The device of that name, or the best there is for "auto"."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"there is no device {name} on this machine; use --device cpu or auto", path="--device")
    return device
