"""From the confidence head's rows to pLDDT, PAE, pTM, clashes and the ranking score of one sample. Knows no files."""

from foldline.confidence.clash import has_clash
from foldline.confidence.scores import ErrorSums, confidences, reduce_errors

__all__ = ["ErrorSums", "confidences", "has_clash", "reduce_errors"]
