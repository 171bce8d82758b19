"""How long other Python threads wait while calls on a large model and data set run.

    python bench/python/pauses.py            in an environment with lowbit, on a machine with at least two free cores

A thread asks for the interpreter every 0.2 ms; the longest time between two of its turns during a call is the call's pause. What is
printed is the median and the largest of the rounds, beside how long the call took. `nothing` sleeps: what it shows is the
interpreter's and the system's own. The model is `mlp` on 128x128 RGB images with 12.6 million parameters, the data 1,000 such images.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np

import lowbit as lb


def longest_pause(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds between two turns of another thread at most while `call` ran, and the seconds that it took."""
    over = threading.Event()
    longest = [0.0]

    def ask() -> None:
        last = time.perf_counter()
        while not over.is_set():
            time.sleep(0.0002)
            now = time.perf_counter()
            longest[0] = max(longest[0], now - last)
            last = now

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.01)
    longest[0] = 0.0
    begun = time.perf_counter()
    result = call()
    took = time.perf_counter() - begun
    over.set()
    asking.join()
    del result
    return longest[0], took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    sys.setswitchinterval(0.0005)
    lb.set_num_threads(1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (1000, 128, 128, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 1000).astype(np.uint32)
    model = lb.zoo("mlp", 10, input=(128, 128, 3))
    data = lb.Dataset(images, labels)
    tensors = model.state_dict()
    pickled_model, pickled_data = pickle.dumps(model, protocol=5), pickle.dumps(data, protocol=5)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/model.safetensors"
        model.save(file)
        calls: dict[str, Callable[[], object]] = {
            "nothing": lambda: time.sleep(0.1),
            "zoo": lambda: lb.zoo("mlp", 10, input=(128, 128, 3)),
            "load": lambda: lb.load(file),
            "save": lambda: model.save(file),
            "run one image": lambda: model(images[:1]),
            "quantize": lambda: lb.quantize(model, images[:64]),
            "state_dict": model.state_dict,
            "load_state_dict": lambda: lb.zoo("mlp", 10, input=(128, 128, 3)).load_state_dict(tensors),
            "copy": lambda: model.__copy__(),
            "pickle.dumps(model)": lambda: pickle.dumps(model, protocol=5),
            "pickle.loads(model)": lambda: pickle.loads(pickled_model),
            "Dataset": lambda: lb.Dataset(images, labels),
            "data.train_images": lambda: data.train_images,
            "pickle.dumps(data)": lambda: pickle.dumps(data, protocol=5),
            "pickle.loads(data)": lambda: pickle.loads(pickled_data),
        }
        print(f"{'call':22} {'pause, ms':>10} {'largest':>8} {'call, ms':>9}")
        for name, call in calls.items():
            measured = [longest_pause(call) for _ in range(given.rounds)]
            pauses = [1e3 * pause for pause, _ in measured]
            took = statistics.median(1e3 * took for _, took in measured)
            print(f"{name:22} {statistics.median(pauses):10.1f} {max(pauses):8.1f} {took:9.1f}")


if __name__ == "__main__":
    main()
