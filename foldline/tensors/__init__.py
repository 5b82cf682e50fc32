"""The nouns that travel as arrays between rooms and machines: numpy and safetensors only."""

from foldline.tensors.features import Features
from foldline.tensors.results import Confidences, EmbeddingRows, Embeddings, Samples

__all__ = ["Confidences", "EmbeddingRows", "Embeddings", "Features", "Samples"]
