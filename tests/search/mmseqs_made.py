"""Databases of clusters with species as ColabFold's setup lays them out, made from a FASTA file by mmseqs itself."""

import shutil
from pathlib import Path

from foldline.search.mmseqs_program import Program


def clusters(program: Program, fasta: Path, folder: Path, name: str, species: dict[str, int] | None = None) -> Path:
    """Write NAME, NAME_seq, NAME_aln and so on; `species` gives numbers of taxa by the names of sequences."""
    work = folder / f"work_{name}"
    work.mkdir(parents=True)

    def run(*words: str | Path) -> None:
        program.run([*words, "-v", "1"], str(words[0]))

    sequences, target = folder / f"{name}_seq", folder / name
    run("createdb", fasta, sequences, "--dbtype", "1", "--shuffle", "0")
    one = ("--threads", "1")
    run("linclust", sequences, work / "clusters", work / "tmp", "--min-seq-id", "0.3", "-c", "0.5", "-k", "5", *one)
    run("align", sequences, sequences, work / "clusters", folder / f"{name}_aln", "-a", "-e", "inf", *one)
    run("result2profile", sequences, sequences, folder / f"{name}_aln", work / "profile", *one)
    run("profile2consensus", work / "profile", target, *one)
    keys = [line.split("\t")[0] for line in target.with_name(f"{name}.index").read_text().splitlines()]
    (work / "keys").write_text("\n".join(keys) + "\n")
    run("createsubdb", work / "keys", folder / f"{name}_seq_h", folder / f"{name}_h", "--subdb-mode", "0")
    if species is not None:
        dump = work / "dump"
        dump.mkdir()
        ids = sorted(set(species.values()))
        nodes = ["1\t|\t1\t|\tno rank\t|\t\t|", *(f"{one}\t|\t1\t|\tspecies\t|\t\t|" for one in ids)]
        names = ["1\t|\troot\t|\t\t|\tscientific name\t|"]
        names += [f"{one}\t|\tspecies {one}\t|\t\t|\tscientific name\t|" for one in ids]
        for file, lines in (("nodes.dmp", nodes), ("names.dmp", names), ("merged.dmp", [])):
            (dump / file).write_text("".join(f"{line}\n" for line in lines))
        mapping = work / "mapping"
        mapping.write_text("".join(f"{one}\t{taxon}\n" for one, taxon in species.items()))
        words = ("--ncbi-tax-dump", dump, "--tax-mapping-file", mapping, "--tax-mapping-mode", "0")
        run("createtaxdb", sequences, work / "tmp", *words)
        for ending in ("_mapping", "_taxonomy"):
            (folder / f"{name}_seq{ending}").rename(folder / f"{name}{ending}")
    shutil.rmtree(work)
    return target
