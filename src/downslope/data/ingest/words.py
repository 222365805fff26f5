"""Stable hashes of many strings at once: words of texts, and rare categories.

Python's own `hash` differs between processes, and a loop over values costs more than decoding
them. Here the hash of bytes b[0..m) is the polynomial sum(b[j] * BASE**(m-1-j)) modulo 2**64,
computed for all spans from one cumulative sum, then mixed. It depends on the bytes alone, so it is
the same on every machine.
"""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from downslope.data.ingest.arrow import compute as pc

WORD_BUCKETS = 1 << 16
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_CHUNK_BYTES = 1 << 17  # so that the 8-byte temporaries of 1 MiB each stay in a cache

# ASCII letters, digits and every byte of a multi-byte character belong to words.
_IN_WORD = np.zeros(256, bool)
_IN_WORD[[ord(c) for c in "0123456789abcdefghijklmnopqrstuvwxyz"]] = True
_IN_WORD[128:] = True


def mixed(x: np.ndarray) -> np.ndarray:
    """uint64 values of which every bit depends on every bit of `x` (splitmix64's finaliser)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@functools.cache
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE**i and BASE**-i modulo 2**64 for i < count."""
    up, down = np.full(count, _BASE, np.uint64), np.full(count, _INVERSE, np.uint64)
    up[0] = down[0] = 1
    return np.multiply.accumulate(up), np.multiply.accumulate(down)


def _hash_spans(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The hash of each span of the bytes `data`, which may be empty."""
    up, down = _powers(1 << max(len(data), 1).bit_length())
    # One more than the byte, so that leading zero bytes count.
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * down[: len(data)], out=sums[1:])
    return mixed((sums[stops] - sums[starts]) * up[stops])


def _buffers(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and offsets (from 0) of a large_string array; nulls become empty strings."""
    array = pc.fill_null(array, "") if array.null_count else array
    _, offsets, data = array.buffers()
    where = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    size = int(where[-1] - where[0])
    if not size:
        return np.zeros(0, np.uint8), where - where[0]
    return np.frombuffer(data, np.uint8, size, int(where[0])), where - where[0]


def _runs(where: np.ndarray):
    """Ranges of rows, at least one each, whose bytes together stay near _CHUNK_BYTES."""
    start, count = 0, len(where) - 1
    while start < count:
        stop = int(np.searchsorted(where, where[start] + _CHUNK_BYTES, "right")) - 1
        stop = min(max(stop, start + 1), count)
        yield start, stop
        start = stop


def hash_strings(array: pa.Array, buckets: int) -> np.ndarray:
    """The bucket in [0, buckets) of each string of a large_string array, as int64."""
    data, where = _buffers(array)
    found = np.zeros(len(array), np.int64)
    for start, stop in _runs(where):
        part, edges = data[where[start] : where[stop]], where[start : stop + 1] - where[start]
        hashes = _hash_spans(part, edges[:-1], edges[1:])
        found[start:stop] = (hashes % np.uint64(buckets)).astype(np.int64)
    return found


def hashed_words(array: pa.Array, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the first `slots` words of each text, and the number of its words.

    Words are lower-cased runs of letters and digits. A word's code is 1 + its bucket of
    65,536; slots after the last word hold 0, and so do all slots of a null.

    Args:
        array: large_string, n texts.
        slots: words kept of each text.

    Returns:
        codes, float32 [n, slots]; number of words, int64 [n].
    """
    array = pc.utf8_lower(array)
    data, where = _buffers(array)
    if len(data) and int(data.max()) >= 128:  # quotes and dashes beyond ASCII separate words too
        array = pc.replace_substring_regex(array, r"[\p{P}\p{S}\p{Z}]+", " ")
        data, where = _buffers(array)
    codes, counts = np.zeros((len(array), slots), np.float32), np.zeros(len(array), np.int64)
    for start, stop in _runs(where):
        part, edges = data[where[start] : where[stop]], where[start : stop + 1] - where[start]
        counts[start:stop] = _hash_rows(part, edges, codes[start:stop])
    return codes, counts


def _hash_rows(data: np.ndarray, edges: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Fill `codes` for the texts between `edges`; returns their numbers of words."""
    inside = _IN_WORD[data]
    begins, ends = inside.copy(), inside.copy()
    begins[1:] &= ~inside[:-1]
    ends[:-1] &= ~inside[1:]
    first = edges[:-1][edges[:-1] < len(data)]  # a word never continues into the next text
    last = edges[1:][edges[1:] > 0] - 1
    begins[first], ends[last] = inside[first], inside[last]
    starts, stops = np.flatnonzero(begins), np.flatnonzero(ends) + 1
    bounds = np.searchsorted(starts, edges)
    counts = np.diff(bounds)
    row = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(starts)) - bounds[row]
    kept = rank < codes.shape[1]
    hashes = _hash_spans(data, starts[kept], stops[kept])
    codes[row[kept], rank[kept]] = (hashes % np.uint64(WORD_BUCKETS)).astype(np.float32) + 1
    return counts
