"""Digests of what models give: the same on every processor, whatever its instruction set.

    python bench/python/digests.py            in an environment with lowbit
"""

from __future__ import annotations

import hashlib
import platform

import numpy as np

import lowbit as lb


def digest(logits: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()[:16]


def main() -> None:
    print(f"# lowbit {lb.__version__}, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    images = np.random.default_rng(1).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    model = lb.zoo("resnet8", 10, input=(32, 32, 3), seed=3)
    print("float32", digest(model(images)))
    for bits in (16, 8, 4, 2, 1):
        print(f"{bits}-bit", digest(lb.quantize(model, images, bits=bits)(images)))
    data = lb.load_dataset("landcover", limit=96, image_size=32, cache=False)
    fresh = lb.zoo("resnet8", len(data.class_names), input=(32, 32, 3))
    run = lb.train(fresh, data, epochs=1, bits=2, batch_size=16)
    print("2-bit, an epoch", digest(run.model(data.test_images)))


if __name__ == "__main__":
    main()
