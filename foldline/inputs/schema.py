"""The shape of AlphaFold 3 JSON: keys and types of the dialects alphafold3 (versions 1-4) and alphafoldserver.

Only shape: letters, positions, ids and references between parts are checked in `checks`. Scalars are strict (1.0 is no
integer, "1" is no number) and unknown keys are errors at every level.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic.alias_generators import to_camel

VERSIONS = (1, 2, 3, 4)
VERSION = VERSIONS[-1]


class Strict(BaseModel):
    """An object of the file: camelCase keys, none unknown."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, arbitrary_types_allowed=False)


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Ids = Annotated[list[StrictStr], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])]


class TemplateShape(Strict):
    """`templates[i]`; AF3 before 3.0.4 wrote null for an empty `templateIndices`."""

    mmcif: StrictStr | None = None
    mmcif_path: StrictStr | None = None
    query_indices: list[StrictInt]
    template_indices: list[StrictInt] | None


class PtmShape(Strict):
    """A modified amino acid."""

    ptm_type: StrictStr
    ptm_position: StrictInt


class BaseShape(Strict):
    """A modified nucleotide."""

    modification_type: StrictStr
    base_position: StrictInt


class ProteinShape(Strict):
    """`protein`."""

    id: Ids
    sequence: StrictStr
    modifications: list[PtmShape] | None = None
    unpaired_msa: StrictStr | None = None
    unpaired_msa_path: StrictStr | None = None
    paired_msa: StrictStr | None = None
    paired_msa_path: StrictStr | None = None
    templates: list[TemplateShape] | None = None
    description: StrictStr | None = None


class RnaShape(Strict):
    """`rna`."""

    id: Ids
    sequence: StrictStr
    modifications: list[BaseShape] | None = None
    unpaired_msa: StrictStr | None = None
    unpaired_msa_path: StrictStr | None = None
    description: StrictStr | None = None


class DnaShape(Strict):
    """`dna`."""

    id: Ids
    sequence: StrictStr
    modifications: list[BaseShape] | None = None
    description: StrictStr | None = None


class LigandShape(Strict):
    """`ligand`: codes or SMILES."""

    id: Ids
    ccd_codes: list[StrictStr] | None = None
    smiles: StrictStr | None = None
    description: StrictStr | None = None


BondEnd = tuple[StrictStr, StrictInt, StrictStr]


class JobShape(Strict):
    """A job of the dialect alphafold3; the members of `sequences` are validated one by one (`ENTITIES`)."""

    dialect: StrictStr
    version: StrictInt
    name: StrictStr
    sequences: list[Any]
    model_seeds: list[Any]
    bonded_atom_pairs: list[tuple[BondEnd, BondEnd]] | None = None
    user_ccd: StrictStr | None = Field(default=None, alias="userCCD")
    user_ccd_path: StrictStr | None = Field(default=None, alias="userCCDPath")


ENTITIES: dict[str, type[Strict]] = {
    "protein": ProteinShape,
    "rna": RnaShape,
    "dna": DnaShape,
    "ligand": LigandShape,
}


class ServerProteinShape(Strict):
    """`proteinChain`."""

    sequence: StrictStr
    count: StrictInt = 1
    modifications: list[PtmShape] | None = None
    glycans: list[Any] | None = None
    max_template_date: StrictStr | None = None
    use_structure_template: StrictBool | None = None


class ServerNucleicShape(Strict):
    """`dnaSequence`, `rnaSequence`."""

    sequence: StrictStr
    count: StrictInt = 1
    modifications: list[BaseShape] | None = None


class ServerLigandShape(Strict):
    """`ligand`."""

    ligand: StrictStr
    count: StrictInt = 1


class ServerIonShape(Strict):
    """`ion`."""

    ion: StrictStr
    count: StrictInt = 1


class ServerJobShape(Strict):
    """A job of the dialect alphafoldserver."""

    name: StrictStr
    model_seeds: list[Any] | None = None
    sequences: list[Any]
    dialect: StrictStr | None = None
    version: StrictInt | None = None


SERVER_ENTITIES: dict[str, type[Strict]] = {
    "proteinChain": ServerProteinShape,
    "rnaSequence": ServerNucleicShape,
    "dnaSequence": ServerNucleicShape,
    "ligand": ServerLigandShape,
    "ion": ServerIonShape,
}
