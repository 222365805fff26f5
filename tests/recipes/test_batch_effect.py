"""ComBat by streaming: equal to scanpy's, from any source, in memory that cells do not change."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from downslope import DataError, UsageError
from downslope.recipes.batch_effect import BatchEffect
from downslope.recipes.batch_effect.moments import Moments


def planted(seed: int = 0, cells: int = 300, genes: int = 25):
    rng = np.random.default_rng(seed)
    lab = rng.integers(0, 3, cells)
    y = rng.normal(size=(cells, genes)) * rng.gamma(9, 1 / 9, (3, genes))[lab]
    return y + rng.normal(0, 2, (3, genes))[lab] + rng.normal(0, 5, genes), lab


def test_shifts_and_scales_are_taken_off():
    """Catches a missing shift or scale. Truth: with many cells shrinkage vanishes, so that every
    laboratory ends with the pooled mean and spread.
    """
    y, lab = planted(cells=30_000, genes=40)
    out = BatchEffect().fit_transform(y, batch=lab)
    for each in range(3):
        np.testing.assert_allclose(out[lab == each].mean(0), out.mean(0), atol=0.01)
        np.testing.assert_allclose(out[lab == each].std(0), out.std(0), rtol=0.01)
    assert np.abs(y[lab == 1].mean(0) - y[lab == 0].mean(0)).max() > 2


def test_linear_takes_off_the_shift_alone():
    y, lab = planted(1)
    out = BatchEffect(method="linear").fit_transform(y, batch=lab)
    for each in range(3):
        np.testing.assert_allclose(out[lab == each].mean(0), y.mean(0))
        np.testing.assert_allclose(out[lab == each].std(0), y[lab == each].std(0))


def test_shrinkage_helps_small_batches():
    """Catches priors that are not used. Truth: the planted shifts, met better than by means."""
    ours = means = 0.0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        shift = rng.normal(0, 0.3, 200)
        lab = np.repeat([0, 1], [200, 4])
        y = rng.normal(size=(204, 200)) + np.outer(lab, shift)
        found = BatchEffect().fit(y, batch=lab)
        estimate = found.adjustment_.shrunk_shift[1] - found.adjustment_.shrunk_shift[0]
        ours += ((estimate - shift) ** 2).mean()
        means += ((y[lab == 1].mean(0) - y[lab == 0].mean(0) - shift) ** 2).mean()
    assert ours < 0.5 * means


def test_what_covariates_keep():
    """Catches covariates that are ignored. Truth: types 3 apart, in labs of unequal mixture; a
    correction that does not know them takes off 3 (p_B - p_A) of the labs' gap too much.
    """
    rng = np.random.default_rng(2)
    lab = np.repeat([0, 1], 5000)
    kind = (rng.random(10_000) < np.where(lab == 0, 0.9, 0.1)).astype(int)
    y = rng.normal(size=(10_000, 30)) + 3.0 * kind[:, None] + 2.0 * lab[:, None]

    def gap_of_a_type(out):
        return (out[(lab == 1) & (kind == 1)] - out[(lab == 0) & (kind == 1)].mean(0)).mean()

    linear = BatchEffect(method="linear")
    assert gap_of_a_type(linear.fit_transform(y, batch=lab)) == pytest.approx(3 * 0.8, abs=0.1)
    for method in ("linear", "combat"):
        model = BatchEffect(method=method)
        out = model.fit_transform(y, batch=lab, covariates={"kind": kind.astype(str)})
        assert gap_of_a_type(out) == pytest.approx(0, abs=0.02)
        assert (out[kind == 1].mean() - out[kind == 0].mean()) == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("chunk_cells", [1, 7, 299, 1000])
def test_chunks_and_order_do_not_matter(chunk_cells):
    """Catches sums that are merged wrongly. Truth: one chunk, cells in another order."""
    y, lab = planted()
    age = np.random.default_rng(1).normal(size=len(y))
    expected = BatchEffect().fit_transform(y, batch=lab, covariates={"age": age})
    order = np.random.default_rng(2).permutation(len(y))
    out = BatchEffect(chunk_cells=chunk_cells).fit_transform(
        y[order], batch=lab[order], covariates={"age": age[order]}
    )
    np.testing.assert_allclose(out, expected[order], atol=1e-10)


def test_large_levels_do_not_swallow_variances():
    """Catches raw second moments: at 1e7 their difference has no digit left."""
    y, lab = planted()
    expected = BatchEffect().fit_transform(y, batch=lab)
    out = BatchEffect(chunk_cells=50).fit_transform(y + 1e7, batch=lab)
    np.testing.assert_allclose(out - 1e7, expected, atol=1e-6)


def test_moments_are_those_of_numpy():
    y, lab = planted(cells=60, genes=4)
    c = np.random.default_rng(0).normal(size=(60, 2))
    found = Moments(3, 2, 4)
    for at in (slice(0, 13), slice(13, 14), slice(14, 60)):
        found.add(y[at], lab[at], c[at])
    for b in range(3):
        own = np.cov(np.hstack([c, y])[lab == b].T, ddof=0) * (lab == b).sum()
        np.testing.assert_allclose(found.cc[b], own[:2, :2])
        np.testing.assert_allclose(found.cy[b], own[:2, 2:], atol=1e-12)
        np.testing.assert_allclose(found.yy[b], np.diag(own)[2:])
    total = found.pooled()
    np.testing.assert_allclose(total.yy[0], y.var(0) * 60)
    np.testing.assert_allclose(total.mean_y[0], y.mean(0))


def test_constant_genes_stay_and_count_for_nothing():
    """Catches 0 / 0, and priors that silent genes pull to zero."""
    y, lab = planted()
    silent = np.concatenate([np.zeros((300, 5)), y, np.full((300, 2), 0.1)], axis=1)
    out = BatchEffect().fit_transform(silent, batch=lab)
    np.testing.assert_array_equal(out[:, :5], 0)
    np.testing.assert_allclose(out[:, -2:], 0.1)
    np.testing.assert_allclose(out[:, 5:-2], BatchEffect().fit_transform(y, batch=lab))


def test_a_gene_that_one_laboratory_does_not_show():
    y, lab = planted()
    y[lab == 0, 3] = 0
    assert np.isfinite(BatchEffect().fit_transform(y, batch=lab)).all()


def test_one_gene():
    """Catches a prior fitted to a single number: its spread is 0 / 0."""
    y, lab = planted(genes=1)
    out = BatchEffect().fit_transform(y, batch=lab)
    for each in range(3):
        assert out[lab == each].mean() == pytest.approx(out.mean(), abs=1e-9)


def test_new_cells_of_known_laboratories():
    """Catches a transform that learns again from what it is given."""
    y, lab = planted()
    model = BatchEffect().fit(y, batch=lab)
    out = model.transform(y, batch=lab)
    np.testing.assert_allclose(model.transform(y[:3], batch=lab[:3]), out[:3])
    with pytest.raises(UsageError, match="batch must be one of those seen in fit; got 9"):
        model.transform(y[:1], batch=[9])
    with pytest.raises(UsageError, match="must have the 25 genes of fit; got 2"):
        model.transform(y[:, :2], batch=lab)
    with pytest.raises(UsageError, match="covariates must be those of fit"):
        model.transform(y, batch=lab, covariates={"age": np.ones(300)})


@pytest.mark.parametrize("kind", ["float32", "float64", "csr", "csc", "int32", "list", "frame"])
def test_kinds_of_matrices(kind):
    """Catches a kind that is read by columns, or whose numbers are cut."""
    import pandas as pd

    y, lab = planted()
    y = np.where(np.abs(y) < 1, 0, np.round(y))
    given = {
        "csr": sp.csr_matrix, "csc": sp.csc_array, "list": np.ndarray.tolist, "frame": pd.DataFrame
    }.get(kind, lambda a: a.astype(kind))(y)  # fmt: skip
    out = BatchEffect(chunk_cells=50).fit_transform(given, batch=lab)
    assert out.dtype == (np.float32 if kind in ("float32", "int32") else np.float64)
    np.testing.assert_allclose(out, BatchEffect().fit_transform(y, batch=lab), atol=1e-5)


def test_memory_does_not_grow_with_cells(tmp_path):
    """Catches a design or a matrix that is held whole. 8 times the cells: the same sums."""
    peaks = []
    for cells in (4_000, 32_000):
        path = tmp_path / f"{cells}.npy"
        np.save(path, np.random.default_rng(0).normal(size=(cells, 200)).astype("float32"))
        lab = np.arange(cells) % 3
        model = BatchEffect(chunk_cells=500).fit(path, batch=lab)  # imports, caches
        tracemalloc.start()
        model.fit(path, batch=lab)
        peaks.append(tracemalloc.get_traced_memory()[1] - 40 * cells)  # labels, sorted for codes
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (dict(batch=None), UsageError, "batch must be the label of each cell"),
        (dict(batch=np.zeros(300)), UsageError, "two batches or more"),
        (dict(batch=np.zeros(5)), UsageError, "one label for each of 300 rows"),
        (dict(batch="lab"), UsageError, "labels where cells are an array"),
        (dict(batch=np.r_[0, np.ones(299)]), DataError, "single cell"),
        (dict(covariates=["age"]), UsageError, "labels where cells are an array"),
        (dict(covariates="age"), UsageError, "a list of names"),
        (dict(covariates={"age": np.r_[np.nan, np.ones(299)]}), DataError, "'age', row 1"),
        (dict(covariates={"age": np.ones(3)}), UsageError, "one value for each of 300"),
        (dict(X=np.ones((300, 2))), DataError, "no gene varies"),
        (dict(X=np.ones((0, 2))), DataError, "no cells"),
        (dict(X=np.ones(300)), UsageError, r"\[cells, genes\]"),
        (dict(X=np.full((300, 2), "a")), DataError, "must be numbers"),
        (dict(X="missing.h5ad"), DataError, "no such file"),
    ],
)
def test_wrong_usage_is_told(change, error, says):
    y, lab = planted()
    given = {"X": y, "batch": lab, **change}
    with pytest.raises(error, match=says):
        BatchEffect().fit(given.pop("X"), **given)


def test_a_missing_value_is_told_with_its_place():
    y, lab = planted()
    y[123, 4] = np.nan
    with pytest.raises(DataError, match=r"column 'gene 5', row 124: not a finite number"):
        BatchEffect(chunk_cells=50).fit(y, batch=lab)
    for settings in (dict(method="magic"), dict(chunk_cells=0)):
        with pytest.raises(UsageError):
            BatchEffect(**settings).fit(y, batch=lab)


def test_it_is_an_estimator():
    """Catches parameters that clone loses, and batches that a pipeline does not hand on."""
    model = clone(BatchEffect(method="linear", chunk_cells=3))
    assert model.get_params() == {"method": "linear", "chunk_cells": 3}
    y, lab = planted()
    with sklearn.config_context(enable_metadata_routing=True):
        first = model.set_fit_request(batch=True).set_transform_request(batch=True)
        pipeline = make_pipeline(first, PCA(2)).fit(y, batch=lab)
        z = pipeline.transform(y, batch=lab)
    assert np.abs(z[lab == 0].mean(0) - z[lab == 1].mean(0)).max() < 1e-9


def test_a_category_that_no_cell_has():
    """Catches levels that fit leaves out and transform asks for."""
    pd = pytest.importorskip("pandas")
    y, lab = planted()
    labs = pd.Categorical.from_codes(lab, ["u", "v", "w", "x"])
    kind = pd.Series(pd.Categorical.from_codes(np.arange(300) % 2, ["p", "q", "r"]))
    out = BatchEffect().fit_transform(y, batch=labs, covariates={"kind": kind})
    expected = BatchEffect().fit_transform(y, batch=lab, covariates={"kind": list(kind)})
    np.testing.assert_allclose(out, expected)


def test_labels_of_the_wrong_number_are_told_by_their_argument():
    y, lab = planted()
    with pytest.raises(UsageError, match="batch must be one label for each of 300 rows; got 2"):
        BatchEffect().fit(y, batch=lab[:2])
    with pytest.raises(UsageError, match="batch must have two batches or more"):
        BatchEffect().fit(y, batch=lab * 0)


@pytest.mark.parametrize("chunk_cells", [0, -1, 1.5, "a", True])
def test_wrong_chunks_are_told(chunk_cells):
    y, lab = planted()
    with pytest.raises(UsageError, match="chunk_cells must be a whole number"):
        BatchEffect(chunk_cells=chunk_cells).fit(y, batch=lab)


def test_a_damaged_file_is_told(tmp_path):
    """Catches NumPy's advice to unpickle it."""
    for content in (b"", b"no", b"\x93NUMPY\x01\x00"):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.npy: not readable as \.npy") as told:
            BatchEffect().fit(tmp_path / "bad.npy", batch=[0, 1])
        assert "pickle" not in str(told.value)
