"""What AlphaFold 3 searches each database with: tool, thresholds, row limits, and its databases in order of merging.

Knows numbers and names; not where a database lies and not how a tool is run.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["protein", "rna"]
SHORT_RNA = 50  # nucleotides; shorter queries get the filter that RNAcentral recommends (AF3 nhmmer.py:38, 183)
SHORT_RNA_F3 = 0.02
INC_DOM_E = 1e-3  # jackhmmer's own threshold for domains


@dataclass(frozen=True)
class Recipe:
    """How one database is searched (AF3 data/pipeline.py:312-460, tools/jackhmmer.py, tools/nhmmer.py)."""

    database: str
    kind: Kind
    file: str  # its name in AlphaFold 3's database folder
    max_rows: int  # the query's row included
    e_value: float = 1e-4  # of a sequence, to be reported and to be included alike
    inc_e: float = 1e-4
    f1: float = 5e-4  # proportions that pass the MSV, Viterbi and Forward filters
    f2: float = 5e-5
    f3: float = 5e-7
    inc_dom_e: float = INC_DOM_E  # of a domain, to be included

    def f3_of(self, query: str) -> float:
        """The Forward filter for this query."""
        return SHORT_RNA_F3 if self.kind == "rna" and len(query) < SHORT_RNA else self.f3


def _rna(database: str, file: str) -> Recipe:
    """nhmmer's own thresholds but for -E and --F3 (both strands are searched)."""
    return Recipe(database, "rna", file, 10_000, e_value=1e-3, inc_e=1e-2, f1=0.02, f2=3e-3, f3=1e-5)


UNIREF90 = Recipe("uniref90", "protein", "uniref90_2022_05.fa", 10_000)
SMALL_BFD = Recipe("small_bfd", "protein", "bfd-first_non_consensus_sequences.fasta", 5_000)
MGNIFY = Recipe("mgnify", "protein", "mgy_clusters_2022_05.fa", 5_000)
UNIPROT = Recipe("uniprot", "protein", "uniprot_all_2021_04.fa", 50_000)
RFAM = _rna("rfam", "rfam_14_9_clust_seq_id_90_cov_80_rep_seq.fasta")
RNACENTRAL = _rna("rnacentral", "rnacentral_active_seq_id_90_cov_80_linclust.fasta")
NT_RNA = _rna("nt_rna", "nt_rna_2023_02_23_clust_seq_id_90_cov_80_rep_seq.fasta")
# hmmsearch with the profile of the unpaired alignment (pipeline.py:434-464)
TEMPLATES = Recipe("pdb_seqres", "protein", "pdb_seqres_2022_09_28.fasta", 50_000, 100, 100, 0.1, 0.1, 0.1, 100)
SEQRES_FILE = TEMPLATES.file
# A folder of ColabFold's databases, for mmseqs alone, whose own filters bound the rows; what is kept may have any
# E-value. The paired rows are those of known species.
ANY, MOST = 10.0, 1_000_000
COLABFOLD = Recipe("colabfold", "protein", "", MOST, ANY, ANY)
COLABFOLD_PAIRED = Recipe("colabfold species", "protein", "", UNIPROT.max_rows, 1e-3, 1e-3)
MMCIF_FOLDER = "mmcif_files"

# In AlphaFold 3's order of merging (pipeline.py:134-144, 208-212).
UNPAIRED: dict[str, tuple[Recipe, ...]] = {"protein": (UNIREF90, SMALL_BFD, MGNIFY), "rna": (RFAM, RNACENTRAL, NT_RNA)}
PAIRED: dict[str, tuple[Recipe, ...]] = {"protein": (UNIPROT,), "rna": ()}
BY_MMSEQS: dict[str, tuple[Recipe, ...]] = {"unpaired": (COLABFOLD,), "paired": (COLABFOLD_PAIRED,)}
RECIPES = {recipe.database: recipe for group in (*UNPAIRED.values(), *PAIRED.values()) for recipe in group}


@dataclass(frozen=True)
class Search:
    """A recipe with the size of its database.

    `z` counts sequences of a protein database and million nucleotides of an RNA database. `z_given` says that the user
    set it: domain E-values then count it too, as AlphaFold 3 does; otherwise they count the sequences that the query
    finds, as HMMER does on its own.
    """

    recipe: Recipe
    z: float
    z_given: bool = False
    sharded: bool = False
    deadline: float | None = None  # time.monotonic() after which the search gives up
    options: tuple[tuple[str, float], ...] = ()  # of the tool: they decide rows as the recipe does
