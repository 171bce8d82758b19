"""How many more images a second two Python threads run than one, each call on one thread of lowbit's.

    python bench/python/threads.py            in an environment with lowbit, on a machine with at least two free cores

Calls let go of the interpreter, so that two threads should come near twice one. Rounds of one and of two threads take turns;
what is printed is the median of the rounds' ratios, with quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time

import numpy as np

import lowbit as lb


def images_per_s(model: lb.Model, images: np.ndarray, threads: int, seconds: float) -> float:
    """Images that so many threads run in so many seconds, each calling the model again and again."""
    done = [0] * threads
    ready = threading.Barrier(threads + 1)
    over = threading.Event()

    def work(number: int) -> None:
        model(images)
        ready.wait()
        while not over.is_set():
            model(images)
            done[number] += len(images)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    begun = time.perf_counter()
    time.sleep(seconds)
    over.set()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet8", help="a model of the zoo")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16, help="images of a call")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    given = parser.parse_args()
    lb.set_num_threads(1)
    size = (given.image_size, given.image_size, 3)
    images = np.random.default_rng(1).integers(0, 256, (given.batch, *size), dtype=np.uint8)
    model = lb.zoo(given.model, 10, input=size)
    for one in (model, lb.quantize(model, images)):
        ratios = []
        for _ in range(given.rounds):
            single = images_per_s(one, images, 1, given.seconds)
            ratios.append(images_per_s(one, images, 2, given.seconds) / single)
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{one.name}, {one.bits} bits, {given.batch} images a call: two threads run {middle:.2f} [{low:.2f}, {high:.2f}] times what one runs; "
              f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")  # fmt: skip


if __name__ == "__main__":
    main()
