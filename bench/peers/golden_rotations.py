"""Writes tests/golden/rotations.json: images turned by PyTorch (grid_sample in f64, bilinear, edges replicated, rounded) and by
Pillow (Image.rotate, bilinear, of the image with its edges replicated around it).

    python golden_rotations.py
"""

import json
import math
import pathlib

import numpy as np
import torch
from PIL import Image

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden"
ANGLES = [960, -960, 333, -64, 1]  # 64ths of a degree
MARGIN = 8


def by_pytorch(image, degrees):
    """Output pixel (x, y) from the center takes the input at (cos x - sin y, sin x + cos y)."""
    h, w, _ = image.shape
    angle = math.radians(degrees)
    y, x = torch.meshgrid(
        torch.arange(h, dtype=torch.float64) - (h - 1) / 2, torch.arange(w, dtype=torch.float64) - (w - 1) / 2, indexing="ij"
    )
    from_x = math.cos(angle) * x - math.sin(angle) * y
    from_y = math.sin(angle) * x + math.cos(angle) * y
    grid = torch.stack([from_x * 2 / w, from_y * 2 / h], -1)[None]
    maps = torch.from_numpy(image).to(torch.float64).permute(2, 0, 1)[None]
    turned = torch.nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.floor(turned[0].permute(1, 2, 0) + 0.5).to(torch.uint8).numpy()


def by_pillow(image, degrees):
    wide = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
    turned = np.asarray(Image.fromarray(wide).rotate(degrees, resample=Image.Resampling.BILINEAR))
    return turned[MARGIN:-MARGIN, MARGIN:-MARGIN]


def main():
    rng, cases = np.random.default_rng(1), []
    for h, w in [(9, 9), (6, 11)]:
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        turned = []
        for angle in ANGLES:
            pytorch, pillow = by_pytorch(image, angle / 64), by_pillow(image, angle / 64)
            apart = np.abs(pytorch.astype(int) - pillow).max()
            print(f"{h}x{w} {angle / 64:8.3f} degrees: PyTorch and Pillow {apart} apart")
            turned.append({"angle_64ths": angle, "pytorch": pytorch.ravel().tolist(), "pillow": pillow.ravel().tolist()})
        cases.append({"shape": [h, w, 3], "image": image.ravel().tolist(), "turned": turned})
    (GOLDEN / "rotations.json").write_text(json.dumps({"cases": cases}) + "\n")


if __name__ == "__main__":
    main()
