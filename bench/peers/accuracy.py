"""Trains `eurosat-cnn` on EuroSAT in PyTorch with lowbit's recipe, and prints the test accuracy of every epoch.

  python accuracy.py EuroSAT_RGB.zip --seed 1

80/20 split, stratified and seeded; batch 64, Adam 1e-3 with a cosine to 0 over all steps, 10 epochs; no augmentation. `--schedule constant` keeps the learning rate.
The split and the order are NumPy's, not lowbit's: equal in distribution, not image by image.
"""

import argparse
import io
import json
import math
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import models


def load(path):
    """Images `[n, h, w, c]` as u8 and labels of a zip with one folder per class."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg", ".png")))
        encoded = [archive.read(name) for name in names]
    classes = sorted({Path(name).parent.name for name in names})
    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(lambda b: np.asarray(Image.open(io.BytesIO(b)).convert("RGB")), encoded)))
    return images, np.array([classes.index(Path(name).parent.name) for name in names]), classes


def split(labels, fraction, rng):
    """Indices for training and test, `fraction` of each class in the test."""
    train, test = [], []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cut = round(len(members) * fraction)
        test.append(members[:cut])
        train.append(members[cut:])
    return np.concatenate(train), np.concatenate(test)


def tensor(images):
    return models.normalized(images).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def correct(net, images, labels):
    net.eval()
    found = [net(tensor(images[i : i + 256])).argmax(1).numpy() for i in range(0, len(images), 256)]
    net.train()
    return np.concatenate(found) == labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zip", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--schedule", choices=["cosine", "constant"], default="cosine", help="of the learning rate")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="images per split")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    images, labels, classes = load(args.zip)
    train, test = (part[: args.limit] for part in map(rng.permutation, split(labels, 0.2, rng)))
    net = models.eurosat_cnn(len(classes), images.shape[1]).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    steps_per_epoch = math.ceil(len(train) / args.batch_size)
    total, step, training_seconds, epochs = steps_per_epoch * args.epochs, 0, 0.0, []
    print(f"{len(train)} training and {len(test)} test images, {len(classes)} classes", flush=True)
    for epoch in range(1, args.epochs + 1):
        start, losses, order = time.perf_counter(), [], rng.permutation(train)
        for at in range(0, len(order), args.batch_size):
            pick = order[at : at + args.batch_size]
            factor = 1.0 if args.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.param_groups[0]["lr"] = args.lr * factor
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(tensor(images[pick])), torch.from_numpy(labels[pick]))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        seconds = time.perf_counter() - start
        training_seconds += seconds
        accuracy = 100 * float(correct(net, images[test], labels[test]).mean())
        epochs.append({"epoch": epoch, "loss": float(np.mean(losses)), "test_accuracy_percent": accuracy, "seconds": seconds})
        print(f"epoch {epoch:2}  loss {np.mean(losses):.4f}  test {accuracy:.2f} %  {len(train) / seconds:.0f} img/s", flush=True)
    print(f"training took {training_seconds:.0f} s, without the tests")
    if args.out:
        settings = {name: value if not isinstance(value, Path) else value.name for name, value in vars(args).items()}
        args.out.write_text(json.dumps({"torch": torch.__version__, "settings": settings, "epochs": epochs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
