"""Made news about made countries, whose rating depends on numbers and words in a known way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.arguments import whole
from downslope.recipes.fusion.ordinal import log_probabilities

GOOD = ("growth", "reform", "surplus", "stimulus", "credit", "boom", "hiring", "expansion")
BAD = ("strike", "default", "scandal", "recession", "layoffs", "austerity", "unrest", "freeze")
PLAIN = tuple(
    f"{a}{b}" for a in "bcdfghjklmnprst" for b in ("ado", "ero", "imu", "ola", "una", "ivi")
)
TONE_WORDS, PLAIN_WORDS = 4, 8  # of each text


@dataclass(frozen=True, kw_only=True)
class RatedNews:
    """Rows with their truth.

    Attributes:
        X: columns by name: `gdp`, `inflation`, `debt` (standard normal) and `news`.
        y: ratings, 0 (lowest) to levels - 1.
        times: years.
        groups: countries.
        score: the true score of each row, in log-odds.
        probabilities: the true probabilities [n, levels].
        bayes_loss: the mean log loss of the true probabilities, in nats: no model can do better
            on rows without end.
    """

    X: dict[str, Any]
    y: np.ndarray
    times: np.ndarray
    groups: np.ndarray
    score: np.ndarray
    probabilities: np.ndarray
    bayes_loss: float


def rated_news(
    num_rows: int,
    *,
    levels: int = 2,
    numbers: float = 1.0,
    words: float = 1.0,
    interaction: float = 2.0,
    seed: int = 0,
) -> RatedNews:
    """Rows whose score is linear in numbers, linear in words, and bilinear in both.

    A text has 4 words of tone, each good or bad by a fair coin and different from one another,
    among 8 plain ones; its tone t is (good - bad) / 2, of mean 0 and variance 1. With g, i, d the
    standard normal GDP growth, inflation and debt, the score is

        s = numbers (0.8 g - 0.6 i) + words t + interaction t d,

    and P(y <= k) = sigmoid(c_k - s) with cuts between the levels at the quantiles of a logistic
    variable. News that is good for a country with little debt is bad for one with much where the
    interaction is negative, and the other way round. The last term has no linear part in any
    column: its least-squares projection on numbers and words is 0. With `interaction=0` a linear
    model on words and numbers side by side is the truth, and with `words=0` too, numbers alone are.

    Args:
        num_rows: rows, 1 or more.
        levels: classes, 2 or more.
        numbers, words, interaction: sizes of the three terms, in log-odds.
        seed: of every draw.

    Example:
        >>> news = rated_news(1000, levels=3)
        >>> bool(0 < news.bayes_loss < np.log(3)), len(news.X["news"][0].split())
        (True, 12)
    """
    whole("num_rows", num_rows)
    whole("levels", levels, least=2)
    draw = np.random.default_rng(seed)
    g, i, d = draw.standard_normal((3, num_rows))
    is_good = draw.random((num_rows, TONE_WORDS)) < 0.5
    tone = (2 * is_good - 1).sum(1) / 2
    texts = []
    for row in is_good:
        good, bad = draw.permutation(len(GOOD)), draw.permutation(len(BAD))
        told = [GOOD[good[k]] if is_up else BAD[bad[k]] for k, is_up in enumerate(row)]
        told += [PLAIN[k] for k in draw.choice(len(PLAIN), PLAIN_WORDS, replace=False)]
        texts.append(" ".join(np.array(told)[draw.permutation(len(told))]))
    score = numbers * (0.8 * g - 0.6 * i) + words * tone + interaction * tone * d
    share = np.arange(1, levels) / levels
    logs = log_probabilities(score, np.log(share / (1 - share)))
    chances = np.exp(logs)
    y = (draw.random((num_rows, 1)) > chances.cumsum(1)[:, :-1]).sum(1)
    return RatedNews(
        X={"gdp": g, "inflation": i, "debt": d, "news": np.array(texts, dtype=object)},
        y=y,
        times=2000 + draw.integers(0, 20, num_rows),
        groups=np.array([f"country {k}" for k in draw.integers(0, 40, num_rows)], dtype=object),
        score=score,
        probabilities=chances,
        bayes_loss=float(-(chances * logs).sum(1).mean()),
    )
