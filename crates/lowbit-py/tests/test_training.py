"""Training: callbacks, Ctrl-C, checkpoints, other threads, other processes."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lowbit as lb


def fresh(data: lb.Dataset, name: str = "resnet8") -> lb.Model:
    return lb.zoo(name, len(data.class_names), input=data.image_shape)


# The whole in a process of its own, which a deadlock cannot outlive.
CALLS = """
import threading, lowbit as lb
data = lb.load_dataset("landcover", limit=96, image_size=16)
def model(): return lb.zoo("resnet8", data.class_names, input=data.image_shape)
def trained(threads):
    lb.set_num_threads(threads)
    one = model()
    def hear(record):
        lb.evaluate(one, data)
        lb.train(model(), data, epochs=1, batch_size=32, on_epoch=lambda _: one(data.test_images))
    lb.train(one, data, epochs=2, batch_size=32, on_epoch=hear)
for threads in (1, 2):
    trained(threads)
both = [threading.Thread(target=trained, args=(2,)) for _ in range(2)]
[each.start() for each in both]
[each.join() for each in both]
print("done")
"""


def test_callbacks_may_call_lowbit() -> None:
    done = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


def test_callbacks_come_in_the_calling_thread_and_may_stop_a_training(data: lb.Dataset, tmp_path: Path) -> None:
    whole = fresh(data)
    expected = lb.train(whole, data, epochs=3, batch_size=32).epochs
    heard: list[lb.EpochRecord] = []
    threads: set[int] = set()

    def hear(record: lb.EpochRecord) -> None:
        heard.append(record)
        threads.add(threading.get_ident())
        if record.epoch == 2 and len(heard) == 2:
            raise StopIteration("enough")

    model, checkpoint = fresh(data), tmp_path / "c.safetensors"
    with pytest.raises(StopIteration, match="enough"):
        lb.train(model, data, epochs=3, batch_size=32, on_epoch=hear, checkpoint=checkpoint)
    assert threads == {threading.get_ident()}
    digests = [epoch.logits_digest for epoch in expected]
    assert [record.logits_digest for record in heard] == digests[:2]
    # The model has the last whole epoch's weights, and knows what it was trained on.
    stopped = lb.evaluate(model, data)
    assert int(stopped.logits_digest, 16) == digests[1] and stopped.seen == 0
    again = fresh(data)
    run = lb.train(again, data, epochs=3, batch_size=32, checkpoint=checkpoint, resume=True)
    assert [epoch.logits_digest for epoch in run.epochs] == digests
    assert all(np.array_equal(a, b) for a, b in zip(again.state_dict().values(), whole.state_dict().values()))
    with pytest.raises(lb.TrainingError, match="resume"):
        lb.train(fresh(data), data, epochs=3, batch_size=16, checkpoint=checkpoint, resume=True)


def test_a_cell_that_was_interrupted_goes_on_where_it_was(data: lb.Dataset, tmp_path: Path) -> None:
    """Ctrl-C in a notebook, and the same cell again: the model is the one that was interrupted."""

    def cell(model: lb.Model, checkpoint: Path, stop: int = 0, **how: object) -> lb.Run:
        def hear(record: lb.EpochRecord) -> None:
            if record.epoch == stop:
                raise KeyboardInterrupt

        return lb.train(model, data, batch_size=32, checkpoint=checkpoint, on_epoch=hear, **{"epochs": 4, **how})  # type: ignore[arg-type]

    def interrupted(model: lb.Model, checkpoint: Path, stop: int, **how: object) -> None:
        with pytest.raises(KeyboardInterrupt):
            cell(model, checkpoint, stop, **how)

    # A fresh model, and one that had learned before.
    learned = fresh(data)
    cell(learned, tmp_path / "before.safetensors", epochs=1, seed=2)
    for number, begin in enumerate([fresh(data), learned]):
        whole, model, checkpoint = copy.copy(begin), copy.copy(begin), tmp_path / f"{number}.safetensors"
        expected = cell(whole, tmp_path / f"whole{number}.safetensors")
        interrupted(model, checkpoint, 1)
        interrupted(model, checkpoint, 2, resume=True)
        # In the last epoch too: what comes then is what it came to.
        interrupted(model, checkpoint, 4, resume=True)
        run = cell(model, checkpoint, resume=True)
        assert [epoch.logits_digest for epoch in run.epochs] == [epoch.logits_digest for epoch in expected.epochs]
        assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), whole.state_dict().values()))
        assert model.about["trained_on"] == whole.about["trained_on"]
    # Without a checkpoint there, a training begins with what the model has.
    model, again = fresh(data), tmp_path / "again.safetensors"
    interrupted(model, tmp_path / "first.safetensors", 1)
    same, state = copy.copy(model), model.state_dict()
    expected = cell(same, tmp_path / "other.safetensors", epochs=2)
    interrupted(model, again, 1, epochs=2, resume=True)
    assert cell(model, again, epochs=2, resume=True).epochs[-1].logits_digest == expected.epochs[-1].logits_digest
    # Weights that were put into a model are no interrupted training's.
    interrupted(other := fresh(data), tmp_path / "third.safetensors", 1)
    other.load_state_dict(state)
    with pytest.raises(lb.TrainingError, match="start = scratch.*give the model as it was before that training"):
        cell(other, tmp_path / "third.safetensors", resume=True)


def test_batches_are_told_as_well(data: lb.Dataset) -> None:
    heard: list[tuple[int, int, float, float]] = []
    lb.train(fresh(data, "mlp"), data, epochs=1, batch_size=32, on_batch=lambda *told: heard.append(told))
    images = len(data.train_images)
    assert [told[0] for told in heard][-1] == images and {told[1] for told in heard} == {images}
    assert len(heard) == -(-images // 32) and all(0 <= told[3] <= 1 for told in heard)


INTERRUPTED = """
    import json, sys
    import lowbit as lb
    data = lb.load_dataset("landcover", limit=96, image_size=32, cache=False)
    model = lb.zoo("resnet8", len(data.class_names), input=data.image_shape)
    epochs = []
    def hear(record):
        epochs.append(record.logits_digest)
        print(record.epoch, flush=True)
    try:
        lb.train(model, data, epochs=100000, batch_size=32, on_epoch=hear)
    except KeyboardInterrupt:
        print(json.dumps([lb.evaluate(model, data).logits_digest, epochs]), flush=True)
        sys.exit(7)
"""


def test_ctrl_c_stops_within_a_batch_and_keeps_the_last_whole_epoch() -> None:
    # A shell in the background has its programs ignore the signal, and theirs.
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "1\n"
    program.send_signal(signal.SIGINT)
    sent = time.monotonic()
    rest = program.stdout.read().splitlines()
    assert program.wait(timeout=60) == 7
    digest, epochs = json.loads(rest[-1])
    assert int(digest, 16) == epochs[-1]
    assert time.monotonic() - sent < 30


def test_a_training_that_diverges_is_an_exception_and_leaves_the_model(data: lb.Dataset) -> None:
    model = fresh(data)
    before = model(data.test_images)
    with pytest.raises(lb.TrainingError, match="diverged"):
        lb.train(model, data, epochs=2, lr=1e30, optimizer="sgd")
    assert np.array_equal(model(data.test_images), before)


def test_a_model_of_other_images_is_not_trained(data: lb.Dataset) -> None:
    with pytest.raises(lb.DataError, match="32"):
        lb.train(lb.zoo("mlp", len(data.class_names), input=(8, 8, 3)), data)
    with pytest.raises(lb.Error, match="names for 3 classes"):
        lb.train(lb.zoo("mlp", 3, input=data.image_shape), data)


def rate(model: lb.Model, images: np.ndarray, threads: int, seconds: float) -> float:
    """Calls per second of so many Python threads together."""
    over, done = time.perf_counter() + seconds, [0] * threads

    def work(at: int) -> None:
        while time.perf_counter() < over:
            model(images)
            done[at] += 1

    begun = time.perf_counter()
    workers = [threading.Thread(target=work, args=(at,)) for at in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - begun)


def test_a_call_lets_other_threads_run(model: lb.Model, data: lb.Dataset) -> None:
    """Python goes on while a call works: counted, not timed, so that a busy machine does not matter."""
    images = np.repeat(data.test_images, 4, axis=0)
    lb.set_num_threads(1)
    try:
        worker = threading.Thread(target=lambda: [model(images) for _ in range(5)])
        worker.start()
        turns = 0
        while worker.is_alive():
            turns += 1
            time.sleep(0)
        # Were the interpreter held, there were a turn or two for each call.
        assert turns > 100
    finally:
        lb.set_num_threads(0)


@pytest.mark.skipif("LOWBIT_SPEED" not in os.environ, reason="needs two idle cores: LOWBIT_SPEED=1")
def test_two_threads_are_twice_as_fast_as_one(model: lb.Model, data: lb.Dataset) -> None:
    images = np.repeat(data.test_images, 4, axis=0)
    lb.set_num_threads(1)
    try:
        rate(model, images, 2, 0.3)
        ratios = sorted(rate(model, images, 2, 1.0) / rate(model, images, 1, 1.0) for _ in range(7))
        assert ratios[3] >= 1.8, ratios
    finally:
        lb.set_num_threads(0)


def child(packed: bytes, pipe: object) -> None:
    import pickle

    model, images = pickle.loads(packed)
    pipe.send(model(images).sum().item())  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(model: lb.Model, data: lb.Dataset) -> None:
    import pickle

    images = data.test_images
    expected = model(images).sum().item()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(pickle.dumps((model, images)), there))
    process.start()
    try:
        assert here.poll(60) and here.recv() == expected
    finally:
        process.kill()
        process.join()


THREADS = """
import os, threading, lowbit as lb
lb.set_num_threads(1)
model = lb.zoo("mlp", 2, input=(8, 8, 3))
images = __import__("numpy").zeros((1, 8, 8, 3), "uint8")
def count(): return len(os.listdir("/proc/self/task"))
def call(threads):
    lb.set_num_threads(threads)
    model(images)
def settled(most):
    # A thread ends a moment after it was told.
    for _ in range(200):
        if count() <= most: break
        __import__("time").sleep(0.05)
    return count()
call(1)
begun = count()
for _ in range(50):
    each = threading.Thread(target=call, args=(1,))
    each.start()
    each.join()
print(settled(begun) - begun, flush=True)
for threads in range(2, 12): call(threads)
print(settled(begun + 9 + 10 + 11) - begun, flush=True)
# A child of a thread that had a pool ends like any other, as does one that makes its own.
def fork(again):
    call(1)
    child = os.fork()
    if child == 0:
        if again: call(1)
        raise SystemExit(0)
    print(os.waitpid(child, 0)[1], flush=True)
for again in (False, True):
    fork(again)
    each = threading.Thread(target=fork, args=(again,))
    each.start()
    each.join()
"""


def test_threads_end_with_the_python_thread_that_had_them() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", THREADS], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["0", "30", "0", "0", "0", "0"], (done.stdout, done.stderr)


def test_importing_takes_no_time_and_brings_no_numpy() -> None:
    code = "import sys, time; t = time.process_time(); import lowbit; print(time.process_time() - t, 'numpy' in sys.modules)"
    found = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() for _ in range(5)]
    assert all(numpy == "False" for _, numpy in found)
    # Of processor time, which a busy machine does not change.
    assert min(float(seconds) for seconds, _ in found) < 0.05


def test_validation_images_choose_the_epoch_and_go_along_when_data_are_pickled() -> None:
    import math
    import pickle

    data = lb.load_dataset("landcover", limit=80, split="val:25", image_size=16, cache=False)
    assert "20 validation" in repr(data) and len(data) == 160
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint == data.fingerprint
    assert (again.validation_images == data.validation_images).all() and len(data.validation_labels) == 20
    run = lb.train(fresh(again, "mlp"), again, epochs=5)
    accuracies = [epoch.validation_accuracy for epoch in run.epochs]
    assert accuracies[run.chosen_epoch - 1] == max(accuracies)
    assert all(math.isnan(epoch.test_accuracy) for epoch in run.epochs)
    assert run.test_accuracy == lb.evaluate(run.model, again).accuracy
    with pytest.raises(lb.DataError, match="no names"):
        lb.load_dataset("landcover", split="spatial")
    with pytest.raises(lb.SettingError, match="is no split"):
        lb.load_dataset("landcover", split="thirds")
