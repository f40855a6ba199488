"""Objectives: pure functions of scores and targets. They import torch and nothing of ours."""

from retriever.training.objectives.core import Link, Pool, contrast, masked_logsumexp, weighted_mean
from retriever.training.objectives.presets import all_pairs, in_batch
from retriever.training.objectives.ranking import consistency, listmle, listnet, others
from retriever.training.objectives.soft_top_k import soft_top_k, soft_top_k_loss

__all__ = [
    "Link",
    "Pool",
    "all_pairs",
    "consistency",
    "contrast",
    "in_batch",
    "listmle",
    "listnet",
    "masked_logsumexp",
    "others",
    "soft_top_k",
    "soft_top_k_loss",
    "weighted_mean",
]
