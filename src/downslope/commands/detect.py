"""`downslope detect`: anomalies in a periodic signal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from downslope.commands.common import COMMON, AsJson, Common, Share, cache_programs, show
from downslope.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

LEARNING = Group("With fit", sort_key=0)


def detect(
    action: Annotated[Literal["fit", "score"], Parameter(help="learn, or find anomalies")],
    first: Annotated[Path, Parameter(name="SIGNAL|DETECTOR", help="a signal; a folder for score")],
    second: Annotated[Path | None, Parameter(name="SIGNAL", help="the signal to score")] = None,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(metavar="PATH", help="fit: new folder; score: new Parquet file of all windows"),
    ] = None,
    column: Annotated[
        str | None, Parameter(metavar="NAME", help="column of a table with several")
    ] = None,
    period: Annotated[
        float | None, Parameter(metavar="N", group=LEARNING, help="in samples (default: found)")
    ] = None,
    false_alarm_rate: Annotated[
        Share | None,
        Parameter(metavar="P", group=LEARNING, help="false alarms per window (default: 0.001)"),
    ] = None,
    sampling_rate: Annotated[
        float | None,
        Parameter(metavar="X", group=LEARNING, help="samples per unit of time (default: 1)"),
    ] = None,
    max_iter: Annotated[
        int | None, Parameter(metavar="N", group=LEARNING, help="largest number of passes")
    ] = None,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Find anomalies in a periodic signal.

    `fit` learns from a normal signal and saves a detector in a folder; `score` prints where
    another signal differs from it: which samples, which frequency. A signal is a column of a
    .parquet, .csv or .npy file, in the order of time.

    Example:
        $ downslope detect fit normal.npy --out runs/beam
        $ downslope detect score runs/beam new.npy
    """
    learning = {
        "period": period, "false_alarm_rate": false_alarm_rate, "sampling_rate": sampling_rate,
        "max_iter": max_iter,
    }  # fmt: skip
    given = {name: value for name, value in learning.items() if value is not None}
    if action == "fit":
        if second is not None:
            raise UsageError(f"detect fit takes one SIGNAL; got {second} too")
        if out is None:
            raise UsageError("--out is needed: the folder for the detector")
        return _fit(read_signal(first, column), out, given, json)
    if second is None:
        raise UsageError("detect score needs a DETECTOR, the folder that fit made, and a SIGNAL")
    if given:
        flag = "--" + min(given).replace("_", "-")
        raise UsageError(f"{flag} belongs to detect fit; a detector keeps what it was trained with")
    if out is not None:
        from downslope.data.output import check_writable

        check_writable(out)
    return _score(first, read_signal(second, column), out, json)


def _fit(signal: np.ndarray, out: Path, given: dict[str, Any], as_json: bool) -> int:
    if out.exists():
        raise DataError("already exists", path=out, remedy="choose another name or remove it")
    cache_programs()

    from downslope.recipes.anomaly import AnomalyDetector

    detector = AnomalyDetector(**given).fit(signal)
    detector.save(out)
    threshold, layout = detector.threshold_, detector.layout_
    code = detector.learned_.scorer.model["encode"].shape[1]
    how = (
        "solved" if detector.result_ is None else f"descended {detector.result_.num_steps:,} steps"
    )
    text = (
        f"period     {detector.period_}\n"
        f"windows    {layout.length} samples, one every {layout.hop:.4g}\n"
        f"code       {code} numbers a window, {how}; a bend gains {detector.gain_}\n"
        f"threshold  {threshold.value:.3g}: {threshold.rate}\n"
        f"detector   {out}\n"
        f"next       downslope detect score {out} SIGNAL"
    )
    values = {
        "out": str(out), "period": detector.period_.to_json(), "window": layout.length,
        "hop": layout.hop, "code": code, "gain": detector.gain_.to_json(),
        "descended": detector.result_ is not None, "threshold": threshold.value,
        "rate": threshold.rate.to_json(),
    }  # fmt: skip
    show(text, as_json, values)
    return 0


def _score(folder: Path, signal: np.ndarray, out: Path | None, as_json: bool) -> int:
    from downslope.recipes.anomaly import AnomalyDetector

    detector = AnomalyDetector.load(folder)
    scores, alarms = detector.windows(signal), detector.explain(signal)
    if out is not None:
        import pyarrow as pa

        from downslope.data.output import write_parquet

        columns = {"start": scores.starts, "end": scores.ends, "score": scores.scores}
        table = pa.table(columns | {"alarm": scores.alarms})
        write_parquet(out, table.schema, table.to_batches())
    count, alarming = len(scores.starts), int(scores.alarms.sum())
    last = f"{alarming:,} of {count:,} windows are alarms"
    values = {"windows": count, "alarming": alarming, "alarms": [a.to_json() for a in alarms]}
    show("\n".join([*map(str, alarms), last]), as_json, values)
    return 0


def read_signal(path: Path, column: str | None = None) -> np.ndarray:
    """A column of a file as float64 [n], in file order; missing values are NaN.

    Args:
        path: Parquet, Arrow, CSV, `.npy` or `.npz`.
        column: name of the column; needed for a file with several.

    Raises:
        DataError: no such file or column, or a column that is not numeric.
    """
    import numpy as np

    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:  # whose text advises to allow pickle
            rule = "not readable as .npy: damaged, or no array of numbers"
            raise DataError(rule, path=path) from error
        if array.ndim == 1 and array.dtype.kind in "fiub" and column is None:
            return array.astype(np.float64)

    import pyarrow as pa

    from downslope.data.ingest.tabular import open_table

    table = open_table(path)
    if column is None and len(table.names) > 1:
        raise UsageError(f"--column is needed: one of {', '.join(table.names[:10])}")
    name = table.names[0] if column is None else column
    if name not in table.names:
        raise DataError("no such column", path=path, column=name, remedy="see --column")
    parts = []
    for batch in table.batches([name]):
        values = batch.column(0)
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise DataError(f"{values.type} is no number", path=path, column=name)
        parts.append(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    return np.concatenate([np.zeros(0), *parts])
