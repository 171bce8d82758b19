"""Writes tests/golden/colors.json: images whose brightness, contrast and saturation Pillow's ImageEnhance has changed, one after
the other.

    python golden_colors.py
"""

import json
import pathlib

import numpy as np
from PIL import Image, ImageEnhance

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden"
FACTORS = [  # brightness, contrast, saturation, in 256ths
    (256, 256, 256),
    (205, 256, 256),
    (307, 256, 256),
    (256, 128, 256),
    (256, 400, 256),
    (256, 256, 0),
    (256, 256, 512),
    (300, 211, 333),
]


def by_pillow(image, factors):
    changed = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    for enhance, factor in zip([ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color], factors):
        changed = enhance(changed).enhance(factor / 256)
    return np.asarray(changed)


def main():
    rng, cases = np.random.default_rng(1), []
    for h, w, c in [(7, 9, 3), (8, 6, 3), (5, 5, 1)]:
        image = rng.integers(0, 256, (h, w, c), dtype=np.uint8)
        changed = [{"factors_256ths": f, "pillow": by_pillow(image, f).ravel().tolist()} for f in FACTORS]
        cases.append({"shape": [h, w, c], "image": image.ravel().tolist(), "changed": changed})
    (GOLDEN / "colors.json").write_text(json.dumps({"cases": cases}) + "\n")


if __name__ == "__main__":
    main()
