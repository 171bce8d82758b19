"""Packs the published spatial split of EuroSAT into two bits an image.

Usage: eurosat_spatial.py TRAIN.txt VAL.txt TEST.txt OUT.bin

The lists are those that TorchGeo names (16,200, 5,400 and 5,400 images, split by longitude; MIT, as the data set); their
SHA-256 must be those that it publishes. Classes come in the order of their names, the images of a class by number from 1;
four images a byte, the first in its lowest bits: 0 training, 1 validation, 2 test, 3 no such image.
"""

import hashlib
import re
import sys

DIGESTS = ("2db7d455", "6c758477", "de22dec8")


def main() -> None:
    *lists, out = sys.argv[1:]
    parts: dict[str, dict[int, int]] = {}
    for part, (path, digest) in enumerate(zip(lists, DIGESTS, strict=True)):
        data = open(path, "rb").read()
        found = hashlib.sha256(data).hexdigest()
        if not found.startswith(digest):
            sys.exit(f"{path}: SHA-256 {found[:8]}…, expected {digest}…")
        print(path, found)
        for name in data.decode().split():
            label, number = re.fullmatch(r"([A-Za-z]+)_(\d+)\.jpg", name).groups()
            if parts.setdefault(label, {}).setdefault(int(number), part) != part:
                sys.exit(f"{name} is in two lists")
    packed = bytearray()
    for label in sorted(parts):
        numbers = parts[label]
        print(label, len(numbers), max(numbers))
        codes = [numbers.get(number, 3) for number in range(1, max(numbers) + 1)]
        codes += [3] * (-len(codes) % 4)
        packed += bytes(sum(code << 2 * place for place, code in enumerate(codes[at : at + 4])) for at in range(0, len(codes), 4))
    open(out, "wb").write(packed)
    print(len(packed), "bytes", hashlib.sha256(packed).hexdigest())


main()
