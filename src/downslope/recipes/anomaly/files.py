"""A detector as a folder: safetensors and JSON, each file with its hash."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downslope import DataError
from downslope.estimate import Estimate
from downslope.recipes.anomaly.learning import Learned
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

FORMAT = "downslope anomaly detector 2"
TENSORS, DOCUMENT = "tensors.safetensors", "document.json"
ARRAYS = ("residual", "middle", "reach")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a folder keeps of a detector.

    Attributes:
        params: by name.
        period, gain, threshold: as the detector has them.
        learned: all that scores and calibrates.
    """

    params: dict[str, Any]
    period: Estimate
    gain: Estimate
    threshold: Threshold
    learned: Learned


def save(kept: Kept, path: Path) -> None:
    """Writes a trained detector as a folder that is either whole or absent."""
    learned, scorer = kept.learned, kept.learned.scorer
    tensors = {f"model/{name}": value for name, value in scorer.model.items()}
    tensors |= {name: getattr(scorer, name) for name in ARRAYS}
    tensors |= {"mean": scorer.spectrum.mean, "squares": scorer.spectrum.squares}
    tensors["held_out"] = learned.held_out
    threshold = dataclasses.asdict(kept.threshold) | {"rate": kept.threshold.rate.to_json()}
    document = {
        "format": FORMAT,
        "params": {name: _plain(value) for name, value in kept.params.items()},
        "period": kept.period.to_json(),
        "gain": kept.gain.to_json(),
        "layout": dataclasses.asdict(learned.layout),
        "threshold": threshold,
        "centre": scorer.centre,
        "scale": scorer.scale,
        "spectrum_windows": scorer.spectrum.count,
        "windows": learned.num_windows,
    }
    with atomic_folder(path) as folder:
        write_tensors(folder / TENSORS, tensors)
        write_json(folder / DOCUMENT, document)


def load(path: Path) -> Kept:
    """What `save` wrote.

    Raises:
        DataError: the folder is damaged, or holds something else.
    """
    verify(path)
    document = read_json(path / DOCUMENT) if (path / DOCUMENT).is_file() else {}
    if document.get("format") != FORMAT:
        raise DataError("holds no anomaly detector", path=path, remedy="name what detect fit made")
    tensors = read_tensors(path / TENSORS)
    named = {k: v for k, v in tensors.items() if k.startswith("model/")}
    spectrum = Spectrum(
        count=document["spectrum_windows"], mean=tensors["mean"], squares=tensors["squares"]
    )
    scorer = Scorer(
        centre=document["centre"],
        scale=document["scale"],
        model={name.removeprefix("model/"): value for name, value in named.items()},
        spectrum=spectrum,
        **{name: tensors[name] for name in ARRAYS},
    )
    threshold = document["threshold"]
    return Kept(
        params=document["params"],
        period=Estimate.from_json(document["period"]),
        gain=Estimate.from_json(document["gain"]),
        threshold=Threshold(**threshold | {"rate": Estimate.from_json(threshold["rate"])}),
        learned=Learned(
            layout=Layout(**document["layout"]),
            scorer=scorer,
            held_out=tensors["held_out"],
            num_windows=document["windows"],
        ),
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
