"""Jobs to features with everything that they need from disk opened once: here, or in a process of its own.

Knows no networks, devices or queues.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from foldline.chem.component import Component
from foldline.chem.components import Components
from foldline.chem.conformers import Conformers
from foldline.chem.user_ccd import read_user_ccd
from foldline.features.build import FeatureSet, Msa, build_features
from foldline.inputs import Job, read_text


@dataclass(frozen=True)
class Featurised:
    """Features of a job and the components that it brought itself."""

    made: FeatureSet
    user: Mapping[str, Component] = field(default_factory=dict)


class Featuriser:
    """Makes features. The dictionary is opened and conformers are kept once for all jobs; may be called by threads."""

    msa: Msa

    def __init__(self, cache_dir: Path | None = None, msa: Msa = "auto") -> None:
        """`cache_dir` holds components and conformers (default: the user's cache folder)."""
        self.cache_dir, self.msa = cache_dir, msa
        self.conformers = Conformers(cache_dir=cache_dir)
        self._components: Components | None = None

    @property
    def components(self) -> Components:
        """The dictionary, without any job's own components."""
        if self._components is None:
            self._components = Components.open(self.cache_dir)
        return self._components

    def __call__(self, job: Job) -> Featurised:
        """The features of a job, for all its seeds. Raises InputError when they cannot be made."""
        user = {} if job.user_ccd is None else read_user_ccd(read_text(job.user_ccd, "userCCD"))
        components = self.components.with_user(user) if user else self.components
        return Featurised(build_features(job, components=components, conformers=self.conformers, msa=self.msa), user)


@cache
def _of_process(cache_dir: Path | None, msa: Msa) -> Featuriser:
    return Featuriser(cache_dir, msa)


def featurise(job: Job, cache_dir: Path | None, msa: Msa) -> Featurised:
    """What a child process runs: the job's features, from the one `Featuriser` that the process keeps."""
    return _of_process(cache_dir, msa)(job)
