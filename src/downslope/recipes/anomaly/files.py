"""A detector as a folder: safetensors and JSON, each file with its hash."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from downslope import DataError
from downslope.noise import Measurement
from downslope.recipes.anomaly.scoring import Scorer
from downslope.recipes.anomaly.spectral import Spectrum
from downslope.recipes.anomaly.threshold import Threshold
from downslope.recipes.anomaly.windows import Layout
from downslope.storage import (
    atomic_folder,
    read_json,
    read_tensors,
    verify,
    write_json,
    write_tensors,
)

FORMAT = "downslope anomaly detector 1"
TENSORS, DOCUMENT = "tensors.safetensors", "document.json"
ARRAYS = ("residual", "middle", "reach")


def save(detector: Any, path: Path) -> None:
    """Writes a trained detector as a folder that is either whole or absent."""
    scorer = detector._scorer
    tensors = {f"model/{name}": value for name, value in scorer.model.items()}
    tensors |= {name: getattr(scorer, name) for name in ARRAYS}
    tensors |= {"mean": scorer.spectrum.mean, "squares": scorer.spectrum.squares}
    tensors["held_out"] = detector._held_out
    document = {
        "format": FORMAT,
        "params": {name: _plain(value) for name, value in detector.get_params().items()},
        "period": detector.period_.to_json(),
        "layout": dataclasses.asdict(detector.layout_),
        "threshold": {
            **dataclasses.asdict(detector.threshold_),
            "rate": detector.threshold_.rate.to_json(),
        },
        "centre": scorer.centre,
        "scale": scorer.scale,
        "spectrum_windows": scorer.spectrum.count,
        "windows": detector._count,
    }
    with atomic_folder(path) as folder:
        write_tensors(folder / TENSORS, tensors)
        write_json(folder / DOCUMENT, document)


def load(kind: Any, path: Path) -> Any:
    """A trained detector of a class from its folder.

    Raises:
        DataError: the folder is damaged, or holds something else.
    """
    verify(path)
    document = read_json(path / DOCUMENT) if (path / DOCUMENT).is_file() else {}
    if document.get("format") != FORMAT:
        raise DataError("holds no anomaly detector", path=path, remedy="name what detect fit made")
    tensors = read_tensors(path / TENSORS)
    named = {k: v for k, v in tensors.items() if k.startswith("model/")}
    detector = kind(**document["params"])
    detector.period_ = _measurement(document["period"])
    detector.layout_ = Layout(**document["layout"])
    rate = _measurement(document["threshold"]["rate"])
    detector.threshold_ = Threshold(**document["threshold"] | {"rate": rate})
    detector.offset_ = -detector.threshold_.value
    detector._scorer = Scorer(
        centre=document["centre"],
        scale=document["scale"],
        model={name.removeprefix("model/"): value for name, value in named.items()},
        spectrum=Spectrum(
            count=document["spectrum_windows"], mean=tensors["mean"], squares=tensors["squares"]
        ),
        **{name: tensors[name] for name in ARRAYS},
    )
    detector._held_out, detector._count = tensors["held_out"], document["windows"]
    detector._stepper, detector.result_ = None, None
    return detector.reset()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _measurement(fields: dict[str, Any]) -> Measurement:
    given: dict[str, Any] = {**fields, "flags": tuple(fields["flags"])}
    return Measurement(**given)
