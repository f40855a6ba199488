"""Objectives: pure functions of scores and targets. They import torch and nothing of ours."""

from retriever.training.objectives.core import Link, Pool, contrast, masked_logsumexp, weighted_mean
from retriever.training.objectives.presets import all_pairs, in_batch

__all__ = ["Link", "Pool", "all_pairs", "contrast", "in_batch", "masked_logsumexp", "weighted_mean"]
