"""Jobs and the files they come from: AlphaFold 3 JSON (both dialects) and FASTA. Knows meaning, not chemistry."""

from foldline.inputs.af3_json import json_pieces, to_json
from foldline.inputs.fasta import jobs_from_fasta
from foldline.inputs.faults import InputErrors, count_refused
from foldline.inputs.job import AtomRef, Entity, Job, Ligand, Modification, Polymer, Template, Text
from foldline.inputs.json_file import jobs_from_json
from foldline.inputs.names import slug
from foldline.inputs.read import read_inputs, read_jobs
from foldline.inputs.repair import settled
from foldline.inputs.text import open_text, read_text

__all__ = [
    "AtomRef",
    "Entity",
    "InputErrors",
    "Job",
    "Ligand",
    "Modification",
    "Polymer",
    "Template",
    "Text",
    "count_refused",
    "jobs_from_fasta",
    "jobs_from_json",
    "json_pieces",
    "open_text",
    "read_inputs",
    "read_jobs",
    "read_text",
    "settled",
    "slug",
    "to_json",
]
