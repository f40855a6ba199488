"""Published Spearman correlations × 100, to show beside those measured here.

Two protocols. ``MTEB``: raw text, SICK-R over all 9,927 pairs; numbers from embeddings-benchmark/results. ``PAPERS``:
SentEval "all" on lower-cased, tokenised text, SICK-R over its 4,927 test pairs; numbers from the models' repositories.
SimCSE's are those of one good seed: the mean of 50 seeds is 75.11 for BERT-base and 74.60 for RoBERTa-base.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from retriever.data.sts import SEVEN

MTEB = {
    "all-MiniLM-L6-v2": (72.37, 80.60, 75.59, 85.39, 78.99, 82.03, 77.58),
    "all-MiniLM-L12-v2": (73.08, 82.13, 76.73, 85.58, 80.23, 83.09, 79.32),
    "all-mpnet-base-v2": (72.63, 83.48, 78.00, 85.66, 80.03, 83.42, 80.59),
    "bge-small-en-v1.5": (77.44, 82.98, 81.84, 87.27, 84.93, 85.86, 79.41),
    "bge-base-en-v1.5": (78.03, 84.18, 82.27, 87.96, 85.48, 86.42, 80.30),
    "e5-small-v2": (73.71, 82.32, 80.07, 87.21, 83.80, 84.92, 79.25),
    "LaBSE": (65.08, 67.98, 64.03, 76.59, 72.98, 72.25, 69.99),
    "paraphrase-multilingual-MiniLM-L12-v2": (76.02, 80.70, 78.85, 85.84, 81.05, 84.42, 79.61),
    "potion-base-8M": (62.25, 77.28, 71.91, 79.75, 76.26, 75.41, 64.68),
}
PAPERS = {
    "unsup-simcse-bert-base-uncased": (68.40, 82.41, 74.38, 80.91, 78.56, 76.85, 72.23),
    "unsup-simcse-bert-large-uncased": (70.88, 84.16, 76.43, 84.50, 79.76, 79.26, 73.88),
    "unsup-simcse-roberta-base": (70.16, 81.77, 73.24, 81.36, 80.65, 80.22, 68.56),
    "unsup-simcse-roberta-large": (72.86, 83.99, 75.62, 84.77, 81.80, 81.98, 71.26),
    "sup-simcse-bert-base-uncased": (75.30, 84.67, 80.19, 85.40, 80.82, 84.26, 80.39),
    "whitenedcse-bert-base": (74.03, 84.90, 76.40, 83.40, 80.23, 81.14, 71.33),
    "whitenedcse-bert-large": (74.65, 85.79, 77.49, 84.71, 80.33, 81.48, 75.34),
}


def published(model: str, splits: Mapping[str, str]) -> dict[str, float]:
    """What is published of a model on the sets of an evaluation.

    Args:
        model: A hub name or a path; its last part counts.
        splits: Set → split that was evaluated.

    Returns:
        Set → Spearman correlation, a fraction. A set whose published number is over other pairs is left out; so is
        everything for a model that is not in the table.
    """
    name = Path(model).name.lower()
    for table, sick in ((MTEB, "all"), (PAPERS, "test")):
        over = dict.fromkeys(SEVEN, "test") | {"SICKR": sick}
        for known, scores in table.items():
            if known.lower() == name:
                fractions = {of_set: round(score / 100, 4) for of_set, score in zip(SEVEN, scores, strict=True)}
                return {of_set: value for of_set, value in fractions.items() if splits.get(of_set) == over[of_set]}
    return {}
