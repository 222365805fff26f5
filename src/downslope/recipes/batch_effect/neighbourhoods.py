"""Scores of neighbourhoods and distances: kBET, LISI and silhouettes of labels as codes [n]."""

from __future__ import annotations

import numpy as np

PATTERN = np.ndarray  # codes [n] of labels, shuffled or not
ALPHA = 0.05  # level of kBET's tests


def neighbours(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and distances [n, k] of each cell's neighbours, the cell itself left out."""
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise ImportError("mixing needs scikit-learn: pip install 'downslope[sklearn]'") from error
    found = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()  # without itself
    return found[1], found[0]


def perplexity_weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Weights [n, k], exp(-beta distance) with beta such that their entropy is log(perplexity)."""
    about = distances - distances.min(axis=1, keepdims=True)
    low, high = np.zeros(len(about)), np.full(len(about), np.inf)
    beta = np.ones(len(about))
    for _ in range(100):
        weights = np.exp(-beta[:, None] * about)
        weights /= weights.sum(axis=1, keepdims=True)
        entropy = -np.sum(weights * np.log(np.maximum(weights, 1e-300)), axis=1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        middle = (low + np.where(np.isfinite(high), high, 0)) / 2
        beta = np.where(np.isfinite(high), middle, np.minimum(2 * beta, 1e12))
    return weights


def lisi(near: np.ndarray, weights: np.ndarray, codes: PATTERN, num_levels: int) -> np.ndarray:
    """Effective number of labels [n] among neighbours: 1 / sum of squared weighted shares."""
    labels = codes[near]
    shares = [(weights * (labels == level)).sum(axis=1) for level in range(num_levels)]
    return 1 / np.sum(np.square(shares), axis=0)


def kbet(near: np.ndarray, codes: PATTERN, num_levels: int) -> float:
    """Share of neighbourhoods whose label counts a chi-square test rejects at 5 %."""
    from scipy.stats import chi2

    k = near.shape[1]
    labels = codes[near]
    counts = np.stack([(labels == level).sum(axis=1) for level in range(num_levels)], axis=1)
    expected = k * np.bincount(codes, minlength=num_levels) / len(codes)
    statistic = ((counts - expected) ** 2 / expected).sum(axis=1)
    return float((statistic > chi2.ppf(1 - ALPHA, num_levels - 1)).mean())


def silhouettes(between: np.ndarray, codes: PATTERN) -> np.ndarray:
    """(b - a) / max(a, b) of each cell [n]; 0 for a label that only one cell has."""
    levels, codes = np.unique(codes, return_inverse=True)
    members = (codes[:, None] == np.arange(len(levels))).astype(np.float64)
    counts, n = members.sum(axis=0), np.arange(len(codes))
    sums = between @ members
    own = sums[n, codes] / np.maximum(counts[codes] - 1, 1)
    others = sums / counts
    others[n, codes] = np.inf
    other = others.min(axis=1)
    largest = np.maximum(own, other)
    found = np.divide(other - own, largest, out=np.zeros(len(codes)), where=largest > 0)
    return np.where(counts[codes] > 1, found, 0.0)
