"""A federation as tasks of a Slurm of one node: the server's task and one for each client, which find each other in a folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from lowbit import WireError
from lowbit.flower import _cluster

ROOT = Path(__file__).resolve().parents[2]
LOWBIT = str(Path(sys.executable).with_name("lowbit"))
SMALL = "--clients 2 --data landcover --limit 96 --image-size 32 --model resnet8 --batch-size 16 --no-cache"
THREE = ("--rounds", "3", "--local-epochs", "1")
PATIENCE = 900
whole = pytest.mark.skipif("LOWBIT_FLOWER" not in os.environ, reason="takes minutes: LOWBIT_FLOWER=1")


def lowbit(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(cwd / "config"), "XDG_STATE_HOME": str(cwd / "state"), **more}
    return subprocess.run([LOWBIT, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Slurm whose one node says that it has four cores."""
    missing = [tool for tool in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {missing[0]} here")
    scripts, folder = ROOT / "tests/slurm", tmp_path / "slurm"
    started = subprocess.run(
        [scripts / "start.sh", folder], stdout=subprocess.PIPE, text=True, env={**os.environ, "SLURM_TEST_CPUS": "4"}
    )
    try:
        if started.returncode != 0:
            pytest.skip("tests/slurm/start.sh failed; it needs root")
        yield {"SLURM_CONF": started.stdout.splitlines()[-1]}
    finally:
        subprocess.run([scripts / "stop.sh", folder])


def submit(place: Path, slurm: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    flags = ["--on", "slurm", "--cpus", "1", "--mem", "1G", "--out", "o"]
    return lowbit("submit", "federate", "--transport", "flower", *SMALL.split(), *flags, *more, cwd=place, **slurm)


def tasks(place: Path, slurm: dict[str, str]) -> list[dict[str, str]]:
    done = lowbit("jobs", "--out", "o", "--json", cwd=place, **slurm)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)[0]["tasks"]
    return found


def logs(place: Path) -> str:
    files = [*place.glob("o/jobs/*/logs/*"), *place.glob("o/jobs/*/flower/*.log")]
    return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def wait(place: Path, slurm: dict[str, str]) -> list[str]:
    over = time.monotonic() + PATIENCE
    while time.monotonic() < over:
        states = [task["state"] for task in tasks(place, slurm)]
        if not {"waiting", "running", "ending", "unknown"} & set(states):
            return states
        time.sleep(2)
    raise AssertionError(f"{states} after {PATIENCE} s\n{logs(place)}")


@whole
def test_the_tasks_make_the_model_of_one_process(tmp_path: Path, slurm: dict[str, str]) -> None:
    sent = submit(tmp_path, slurm, *THREE)
    assert sent.returncode == 0 and "sent 3 of 3 tasks to Slurm" in sent.stdout, sent.stderr
    assert wait(tmp_path, slurm) == ["done"] * 3, logs(tmp_path)
    one = lowbit("federate", *SMALL.split(), *THREE, "--out", "one", "--quiet", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    (expected,), (found,) = tmp_path.glob("one/8bit/run_*"), tmp_path.glob("o/8bit/run_*")
    assert found.name == expected.name
    for name in ("model_fp32.safetensors", "model_8bit.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    rounds = json.loads((found / "training_results.json").read_text())["results_per_round"]
    assert [each["clients"] for each in rounds] == [2, 2, 2]
    (meeting,) = tmp_path.glob("o/jobs/*/flower")
    # Keys are their owner's alone, and nobody waits at an address where nobody is.
    assert stat.S_IMODE(meeting.stat().st_mode) == 0o700
    secrets = [meeting / "server.key", meeting / "node-0", meeting / "node-1"]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in secrets)
    assert not (meeting / "address.json").exists()
    # Nothing is left to send, and a client that comes late has nothing to do.
    assert "nothing to send" in submit(tmp_path, slurm, *THREE).stdout
    task = next(tmp_path.glob("o/jobs/*/tasks/1"))
    late = lowbit("flower", "client", "0", cwd=tmp_path, LOWBIT_TASK=str(task))
    assert late.returncode == 0, late.stderr


@whole
def test_a_client_whose_task_is_requeued_goes_on_as_that_client(tmp_path: Path, slurm: dict[str, str]) -> None:
    sent = submit(tmp_path, slurm, "--rounds", "4", "--min-clients", "1", "--local-epochs", "6", "--json")
    assert sent.returncode == 0, sent.stderr
    array = json.loads(sent.stdout)["arrays"][0]
    over = time.monotonic() + PATIENCE
    log = "".join
    while "Received" not in log(file.read_text(errors="replace") for file in tmp_path.glob("o/jobs/*/flower/client-1.log")):
        assert time.monotonic() < over, logs(tmp_path)
        time.sleep(0.2)
    environment = {**os.environ, **slurm}
    subprocess.run(["scontrol", "requeue", f"{array}_2"], check=True, env=environment)
    assert wait(tmp_path, slurm) == ["done"] * 3, logs(tmp_path)
    (found,) = tmp_path.glob("o/8bit/run_*/training_results.json")
    rounds = json.loads(found.read_text())["results_per_round"]
    print("\n", [(each["clients"], each["failures"]) for each in rounds])
    assert [each["clients"] for each in rounds][-1] == 2, rounds
    assert "attempt 2" in logs(tmp_path)


def test_what_cannot_be_sent_is_said(tmp_path: Path) -> None:
    for more, part in [
        (["--on", "local"], "for several machines"),
        (["--on", "slurm", "--max-parallel", "2"], "2 clients are 3 tasks"),
        (["--on", "slurm", "--dropout", "0.5"], "--dropout: is about clients of one process"),
        (["--on", "slurm", "--fault", "1=nan"], "--fault: is about"),
    ]:
        done = lowbit("submit", "federate", "--transport", "flower", "--clients", "2", *more, "--out", "o", cwd=tmp_path)
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1, done.stderr
    shown = lowbit("submit", "federate", "--transport", "flower", *SMALL.split(), *THREE, "--on", "slurm", "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    # A server and two clients, at the same time.
    assert "#SBATCH --array=0-2\n" in shown.stdout
    lines = [shlex.split(line) for line in shown.stdout.splitlines() if " flower " in line]
    argv = [words[words.index("flower") :] for words in lines]
    assert [words[:2] for words in argv] == [["flower", "server"], ["flower", "client"], ["flower", "client"]]
    for pair in ["clients=2", 'up-bits="8"', 'model="resnet8"', "local-epochs=1", "image-size=32", 'act-quantizer="auto"']:
        assert pair in argv[0], argv[0]
    by_hand = lowbit("flower", "client", "0", cwd=tmp_path)
    assert by_hand.returncode == 1 and "--transport flower" in by_hand.stderr and by_hand.stderr.count("\n") == 1


def test_a_client_heeds_only_the_server_that_it_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Node:
        def check(self) -> None:
            if started[-1] == "there:2":
                _cluster.write(tmp_path / "ended.json", {"attempt": "b", "error": "too few"})
            else:
                _cluster.write(tmp_path / "address.json", {"attempt": "b", "address": "there:2"})

        def end(self) -> None:
            pass

    def start(self: _cluster.Client, address: str) -> Node:
        started.append(address)
        return Node()

    monkeypatch.setattr(_cluster.Client, "_start", start)
    monkeypatch.setattr(_cluster, "PAUSE", 0.01)
    # A failure of an attempt before, and the address of one that was killed.
    _cluster.write(tmp_path / "ended.json", {"attempt": "a", "error": "old"})
    _cluster.write(tmp_path / "address.json", {"attempt": "0", "address": "there:1"})
    with pytest.raises(WireError, match="the server failed: too few"):
        _cluster.Client(tmp_path, 0).run()
    assert started == ["there:1", "there:2"]
    _cluster.write(tmp_path / "ended.json", {"attempt": "c", "folder": "results"})
    _cluster.Client(tmp_path, 0).run()
    assert len(started) == 2
