"""Words as codes: each row keeps its weightiest terms, so memory does not grow with the vocabulary.

A row of text becomes `slots` codes (int32) and weights (float32), 8 bytes a slot. Code 0 is an
empty slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer

from downslope.errors import DataError

PIECE_ROWS = 8192  # rows counted at once: bounds the sparse counts
_hashing: Any = HashingVectorizer  # its types as inferred refuse what its documentation allows


class Words:
    """What turns texts into codes and weights, learned from the training rows alone.

    Weights are `(1 + log count) idf`, scaled to a norm of 1 a row (scikit-learn's
    `TfidfTransformer`).

    Args:
        kind: "vocabulary" keeps the commonest terms by name; "hashed" needs no vocabulary, and
            terms may share a code.
        num_words: codes.
        max_slots: distinct terms kept of a row, the weightiest first.

    Attributes:
        slots: terms that a row has room for, a power of two.
        cut_rows: share of the training rows that had more.
    """

    def __init__(
        self, kind: Literal["vocabulary", "hashed"], num_words: int, max_slots: int
    ) -> None:
        if kind == "hashed":
            self.counter: Any = _hashing(n_features=num_words, alternate_sign=False, norm=None)
        else:
            self.counter = CountVectorizer(max_features=num_words, min_df=2)
        self.max_slots = max_slots

    def learn(self, texts: list[str]) -> Words:
        """These words.

        Raises:
            DataError: no word occurs in two rows or more, for a vocabulary.
        """
        if isinstance(self.counter, CountVectorizer):  # what is hashed has nothing to learn
            try:
                self.counter.fit(texts)
            except ValueError as error:
                raise DataError(
                    "the training rows' text has no word that occurs in two rows",
                    remedy="leave the text column out, or give more rows",
                ) from error
        pieces: list[Any] = [self.counter.transform(piece) for piece in _pieces(texts)]
        self.idf: Any = TfidfTransformer(sublinear_tf=True).fit(sparse.vstack(pieces))
        distinct = np.concatenate([np.diff(piece.indptr) for piece in pieces])
        most = min(int(distinct.max()), self.max_slots)
        self.slots = 1 << max(0, most - 1).bit_length()
        self.cut_rows = float((distinct > self.slots).mean())
        # a power of two: runs on nearby vocabularies share their compiled programs
        self.num_codes = 1 << int(pieces[0].shape[1]).bit_length()
        return self

    def codes(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Codes and weights, [n, slots] each."""
        codes = np.zeros((len(texts), self.slots), np.int32)
        weights = np.zeros((len(texts), self.slots), np.float32)
        start = 0
        for piece in _pieces(texts):
            found: Any = self.idf.transform(self.counter.transform(piece))
            rows = np.repeat(np.arange(len(piece)), np.diff(found.indptr))
            order = np.lexsort((found.indices, -found.data, rows))
            slot = np.arange(len(rows)) - np.repeat(found.indptr[:-1], np.diff(found.indptr))
            kept = slot < self.slots
            where = (start + rows[kept], slot[kept])
            codes[where] = found.indices[order][kept] + 1
            weights[where] = found.data[order][kept]
            start += len(piece)
        return codes, weights

    def names(self, texts: list[str]) -> list[dict[int, str]]:
        """The terms behind each row's codes; terms that share a code are joined by "/"."""
        analyse = self.counter.build_analyzer()
        split = [list(dict.fromkeys(analyse(text))) for text in texts]
        distinct = sorted({term for terms in split for term in terms})
        code = dict(zip(distinct, self._codes_of(distinct), strict=True))
        found: list[dict[int, str]] = []
        for terms in split:
            names: dict[int, str] = {}
            for term in terms:
                if code[term]:
                    names[code[term]] = "/".join(filter(None, [names.get(code[term]), term]))
            found.append(names)
        return found

    def _codes_of(self, terms: list[str]) -> list[int]:
        vocabulary = getattr(self.counter, "vocabulary_", None)
        if vocabulary is not None:
            return [int(vocabulary.get(term, -1)) + 1 for term in terms]
        if not terms:
            return []
        # each term is a text of its own here, and is not to be taken apart again
        alone = _hashing(
            n_features=self.counter.n_features, alternate_sign=False, norm=None, analyzer=_alone
        )
        return [int(i) + 1 for i in alone.transform(terms).indices]


def _alone(term: str) -> list[str]:
    return [term]


def _pieces(texts: list[str]) -> Iterable[list[str]]:
    return (texts[i : i + PIECE_ROWS] for i in range(0, len(texts), PIECE_ROWS))
