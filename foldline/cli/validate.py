"""`foldline validate`: everything that can be checked without a search or a network, one line per job."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from foldline.cli.display import print_error, print_note
from foldline.cli.options import ConfigFile, Inputs, settings_from
from foldline.cli.summary import count_of
from foldline.errors import ExitCode, FoldlineError

if TYPE_CHECKING:
    from foldline.chem.components import Components
    from foldline.chem.conformers import Conformers
    from foldline.inputs import Job

Quiet = Annotated[bool, typer.Option("--quiet", help="Print faults alone.")]


def validate(inputs: Inputs, quiet: Quiet = False, config: ConfigFile = None) -> None:
    """Check jobs without running them.

    Looks at fields, alignments, templates, components, bonds and conformers; needs no checkpoint. Exit code 2 when any
    has a fault.
    """
    from foldline.chem.components import Components
    from foldline.chem.conformers import Conformers
    from foldline.inputs import read_inputs

    settings = settings_from(config)
    cache = settings.cache_root
    jobs, faults, notes = read_inputs(inputs, settings.repair)
    for note in notes if not quiet else ():
        print_note(note)
    for fault in faults:
        print_error(fault)
    good, failed = len(jobs), len(faults)
    components, conformers = Components.open(cache), Conformers(cache)
    try:
        for job in jobs:
            try:
                lines = check(job, components, conformers)
            except FoldlineError as error:
                print_error(error, f"job {job.name}: ")
                good, failed = good - 1, failed + 1
                continue
            if not quiet:
                for line in lines:
                    print(line)
    finally:
        conformers.close()
    if failed:
        print(f"faults: {failed}, jobs without: {good}", file=sys.stderr)
        raise typer.Exit(ExitCode.BAD_INPUT)


def check(job: "Job", components: "Components", conformers: "Conformers") -> list[str]:
    """The job in one line, then a line per note.

    Raises:
        InputError: something is wrong with it.
    """
    from foldline.chem.user_ccd import read_user_ccd
    from foldline.features.build import build_features
    from foldline.inputs import Polymer, Text, read_text

    if job.user_ccd is not None:
        components = components.with_user(read_user_ccd(read_text(job.user_ccd, "userCCD")))
    none = Text("")
    to_search = []
    entities = []
    for entity in job.entities:
        if isinstance(entity, Polymer):
            lacks = [entity.unpaired_msa] if entity.kind == "rna" else [entity.unpaired_msa, entity.paired_msa]
            if entity.kind != "dna" and None in lacks:
                to_search += entity.ids
            entity = replace(entity, unpaired_msa=entity.unpaired_msa or none, paired_msa=entity.paired_msa or none)
        entities.append(entity)
    made = build_features(replace(job, entities=tuple(entities)), components=components, conformers=conformers)
    seeds = ",".join(map(str, job.seeds[:5])) + (",..." if len(job.seeds) > 5 else "")
    sizes = (made.features.n_token, "token"), (made.features.n_atom, "atom"), (len(made.topology.chain_id), "chain")
    line = f"ok {job.name}: {', '.join(count_of(*size) for size in sizes)}, seeds {seeds}"
    if to_search:
        line += f"; no alignment given for {', '.join(to_search)}"
    return [line, *(f"note {job.name}: {note}" for note in dict.fromkeys((*job.notes, *made.notes)))]
