"""Predicts jobs from Python and looks at the samples without writing files.

usage: python examples/in_python.py MODEL INPUT...     MODEL: the name of a fetched checkpoint, or a path
"""

import sys

import foldline


def main(model: str, inputs: list[str]) -> None:
    """Print, for every sample, its score and the mean pLDDT of each chain."""
    config = foldline.EngineConfig(msa="none", samples=2, steps=5, recycles=0)
    engine = foldline.Engine(model, config=config)
    for prediction in engine.predict(foldline.read_jobs(inputs)):
        if prediction.error is not None:
            print(f"{prediction.job_name}: {prediction.error}")
            continue
        print(f"{prediction.job_name}: {prediction.n_token} tokens, {prediction.seconds['total']:.1f} s")
        for samples in prediction.samples:
            for number, confidence in enumerate(samples.confidences, start=samples.first):
                x = samples.coordinates[number - samples.first]  # [N_atom, 3], Å
                chains = ", ".join(f"{value:.0f}" for value in confidence.chain_plddt)
                print(
                    f"  seed {samples.seed}, sample {number}: score {confidence.ranking_score:.2f}, "
                    f"pTM {confidence.ptm:.2f}, pLDDT of the chains {chains}, spread {x.std():.1f} Å"
                )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
