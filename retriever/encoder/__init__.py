"""Texts to vectors: transformer and static encoders, pooling, the encode loop, save and load.

Nothing here trains, searches or judges.
"""

from retriever.encoder.encoder import Encoder, Kind, Similarity
from retriever.encoder.static import TermEmbedding
from retriever.encoder.transformer import PoolingName

__all__ = ["Encoder", "Kind", "PoolingName", "Similarity", "TermEmbedding"]
