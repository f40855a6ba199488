"""Objectives: pure functions of scores and targets. They import torch and nothing of ours."""

from retriever.training.objectives.core import Link, Pool, contrast, masked_logsumexp, weighted_mean
from retriever.training.objectives.presets import in_batch

__all__ = ["Link", "Pool", "contrast", "in_batch", "masked_logsumexp", "weighted_mean"]
