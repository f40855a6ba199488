"""Objectives: pure functions of scores and targets. They import torch and nothing of ours."""

from retriever.training.objectives.core import Link, Pool, contrast, masked_logsumexp, weighted_mean
from retriever.training.objectives.label_space import label_space_loss
from retriever.training.objectives.pairs import Pairs, sample_positives
from retriever.training.objectives.presets import all_pairs, in_batch
from retriever.training.objectives.ranking import consistency, listmle, listnet, others
from retriever.training.objectives.soft_top_k import soft_top_k, soft_top_k_loss

__all__ = [
    "Link",
    "Pairs",
    "Pool",
    "all_pairs",
    "consistency",
    "contrast",
    "in_batch",
    "label_space_loss",
    "listmle",
    "listnet",
    "masked_logsumexp",
    "others",
    "sample_positives",
    "soft_top_k",
    "soft_top_k_loss",
    "weighted_mean",
]
