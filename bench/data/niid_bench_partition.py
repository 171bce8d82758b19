"""Images per client and class of the partition that Flower's baseline niid_bench draws for CIFAR-10: Dirichlet with alpha 0.5 over
ten clients, NumPy's generator of seed 42. A client that has its fair share of all images gets none of the classes that follow
(Li et al. 2022). The order of the images does not matter: only how many random numbers are drawn does.

    python bench/data/niid_bench_partition.py > flower42.json
    lowbit federate --data cifar10-png.zip --partition @flower42.json ...
"""

import json
import sys

import numpy as np

CLIENTS, CLASSES, OF_CLASS, ALPHA, LEAST = 10, 10, 5000, 0.5, 10


def counts(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    fair = CLASSES * OF_CLASS / CLIENTS
    while True:
        found = np.zeros((CLIENTS, CLASSES), int)
        for klass in range(CLASSES):
            random.shuffle(np.arange(OF_CLASS))
            shares = random.dirichlet(np.full(CLIENTS, ALPHA)) * (found.sum(axis=1) < fair)
            ends = (np.cumsum(shares / shares.sum()) * OF_CLASS).astype(int)
            ends[-1] = OF_CLASS
            found[:, klass] = np.diff(ends, prepend=0)
        if found.sum(axis=1).min() >= LEAST:
            return found


if __name__ == "__main__":
    json.dump(counts(int(sys.argv[1]) if len(sys.argv) > 1 else 42).tolist(), sys.stdout)
