"""A federation as tasks of a Slurm of one node: the server's task and one for each client, which find each other in a folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from lowbit import WireError
from lowbit.flower import _cluster, _keys

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
    # No key is left, nobody waits at an address where nobody is, and Flower's own folders are gone.
    assert stat.S_IMODE(meeting.stat().st_mode) == 0o700
    names = {file.name for file in meeting.iterdir()}
    assert names == {"ended.json", "ca.crt", "server.pem", "superlink.log", "calls.log", "client-0.log", "client-1.log"}
    # Nothing is left to send, and a client that comes late has nothing to do.
    assert "nothing to send" in submit(tmp_path, slurm, *THREE).stdout
    task = next(tmp_path.glob("o/jobs/*/tasks/1"))
    late = lowbit("flower", "client", "0", cwd=tmp_path, LOWBIT_TASK=str(task))
    assert late.returncode == 0, late.stderr


@whole
def test_a_client_whose_task_is_requeued_goes_on_as_that_client(tmp_path: Path, slurm: dict[str, str]) -> None:
    sent = submit(tmp_path, slurm, "--rounds", "6", "--min-clients", "1", "--local-epochs", "60", "--json")
    assert sent.returncode == 0, sent.stderr
    array = json.loads(sent.stdout)["arrays"][0]
    over = time.monotonic() + PATIENCE
    # Its first training has begun when it was asked twice: who it is, and to train.
    while "".join(file.read_text(errors="replace") for file in tmp_path.glob("o/jobs/*/flower/client-1.log")).count("Received") < 2:
        assert time.monotonic() < over, logs(tmp_path)
        time.sleep(0.2)
    environment = {**os.environ, **slurm}
    subprocess.run(["scontrol", "requeue", f"{array}_2"], check=True, env=environment)
    assert wait(tmp_path, slurm) == ["done"] * 3, logs(tmp_path)
    (found,) = tmp_path.glob("o/8bit/run_*/training_results.json")
    rounds = json.loads(found.read_text())["results_per_round"]
    print("\n", [(each["clients"], each["failures"]) for each in rounds])
    # It was gone in a round, and only it; it came again.
    lost = [each["client"] for round in rounds for each in round["failures"]]
    assert lost and set(lost) == {1}, rounds
    assert rounds[-1]["clients"] == 2, rounds
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
    task = tmp_path / "job/tasks/1"
    task.mkdir(parents=True)
    for arguments, part in [
        (["client"], "expected the number of a client"),
        (["client", "one"], "expected the number of a client"),
        (["server", "clients"], "expected KEY=VALUE"),
        (["broker"], "--transport flower"),
    ]:
        done = lowbit("flower", *arguments, cwd=tmp_path, LOWBIT_TASK=str(task))
        assert done.returncode == 1 and part in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert part in (task / "error.txt").read_text()


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
    (tmp_path / "node-0").touch()
    # A failure of an attempt before, and the address of one that was killed.
    _cluster.write(tmp_path / "ended.json", {"attempt": "a", "error": "old"})
    _cluster.write(tmp_path / "address.json", {"attempt": "0", "address": "there:1"})
    with pytest.raises(WireError, match="the server failed: too few"):
        _cluster.Client(tmp_path, 0).run()
    assert started == ["there:1", "there:2"]
    _cluster.write(tmp_path / "ended.json", {"attempt": "c", "folder": "results"})
    _cluster.Client(tmp_path, 0).run()
    assert len(started) == 2


def test_a_client_that_still_counts_as_online_tries_again_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, started = tmp_path / "client-0.log", []
    log.write_text("Failed to activate SuperNode, long ago\n")

    def start(self: _cluster.Client, address: str) -> _cluster.Child:
        started.append(address)
        # The third one is let in, and the federation ends.
        line = "Failed to activate SuperNode." if len(started) < 3 else "hello"
        ended = json.dumps({"attempt": "a", "folder": "results"})
        script = f"printf '{line}\\n'; " + ("exit 1" if len(started) < 3 else f"printf '{ended}' > ended.json; sleep 60")
        return _cluster.Child(log, dict(os.environ), "sh", "-c", script)

    monkeypatch.setattr(_cluster.Client, "_start", start)
    monkeypatch.setattr(_cluster, "PAUSE", 0.01)
    monkeypatch.setattr(_cluster, "AGAIN", 0.01)
    (tmp_path / "node-0").touch()
    _cluster.write(tmp_path / "address.json", {"attempt": "a", "address": "there:1"})
    _cluster.Client(tmp_path, 0).run()
    assert started == ["there:1"] * 3
    # Its patience ends, and another failure is none of these.
    (tmp_path / "ended.json").unlink()
    started.clear()
    monkeypatch.setattr(_cluster, "TAKEN", -1.0)
    with pytest.raises(WireError, match="Failed to activate"):
        _cluster.Client(tmp_path, 0).run()
    assert len(started) == 1
    monkeypatch.setattr(_cluster, "TAKEN", 60.0)
    monkeypatch.setattr(_cluster, "STILL_ONLINE", "something else")
    with pytest.raises(WireError, match="Failed to activate"):
        _cluster.Client(tmp_path, 0).run()
    assert len(started) == 2


def test_keys_lie_in_a_folder_of_their_owners_alone_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "flower"
    folder.mkdir()
    folder.chmod(0o755)
    _keys.private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    _keys.certify(folder, ["localhost", "127.0.0.1"])
    for client in range(2):
        assert _keys.node_key(folder, client) == _keys.key_of(folder, client)
    secrets = [folder / "server.key", folder / "node-0", folder / "node-1"]
    assert all(b"PRIVATE KEY" in file.read_bytes() and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in secrets)
    before = secrets[1].read_bytes()
    assert _keys.node_key(folder, 0).read_bytes() == before
    _keys.forget(folder)
    assert {file.name for file in folder.iterdir()} == {"ca.crt", "server.pem"}
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(WireError, match="no link"):
        _keys.private_folder(link)


class Quiet:
    """A program of Flower's that does what it should."""

    log = Path("nowhere.log")

    def __init__(self, *_: Any) -> None:
        pass

    def check(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass

    def end(self) -> None:
        pass


def test_nobody_waits_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster, "PAUSE", 0.01)
    hung = _cluster.Child(tmp_path / "sleep.log", dict(os.environ), "sleep", "60")
    with pytest.raises(WireError, match="sleep 60 did not end within 0 s: it said nothing"):
        hung.wait(0.05)
    assert hung.process.returncode == -signal.SIGTERM

    def server(*config: str) -> _cluster.Server:
        return _cluster.Server(tmp_path, list(config))

    def fails(made: Any, part: str) -> None:
        with pytest.raises(WireError, match=part) as error:
            made()
        assert "\n" not in str(error.value)

    monkeypatch.setattr(_cluster, "Child", Quiet)
    with monkeypatch.context() as patch:
        patch.setattr(_cluster, "START", 0.05)
        patch.setattr(_cluster, "_listens", lambda port: False)
        fails(server("clients=1").run, "does not listen at port")
        assert "does not listen" in json.loads((tmp_path / "ended.json").read_text())["error"]
        assert not (tmp_path / "server.key").exists()
    place = {"attempt": "a", "address": "there:1"}
    with monkeypatch.context() as patch:
        patch.setattr(_cluster, "BEGIN", 0.05)
        fails(lambda: server()._results(place), "the app has not begun after")
    over = subprocess.Popen(["true"])
    while _cluster._lives(over.pid):
        time.sleep(0.01)
    # It has ended, and nobody has looked; then somebody has.
    for _ in range(2):
        one = server()
        _cluster.write(one.done, {"process": over.pid})
        fails(lambda: one._results(place), f"process {over.pid} is gone")
        over.wait()
    with monkeypatch.context() as patch:
        patch.setattr(_cluster, "BEGIN", 0.2)
        patch.setattr(_cluster, "BEAT", 0.05)
        one = server("wait-for-nodes=0", "num-server-rounds=1", "round-timeout=0.01")
        _cluster.write(one.done, {"process": os.getpid()})
        fails(lambda: one._results(place), "more than all rounds may take")
        # It lived until then, and said so.
        assert json.loads((tmp_path / "address.json").read_text())["beat"] >= 2
    fails(lambda: server("round-timeout=soon")._results(place), "round-timeout=soon: must be a number")
    one = server()
    _cluster.write(one.done, {"folder": "results"})
    assert one._results(place) == "results"

    (tmp_path / "address.json").unlink()
    (tmp_path / "ended.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(_cluster, "COMES", 0.05)
        fails(_cluster.Client(tmp_path, 0).run, "no server has come for 0 s")
        patch.setattr(_cluster, "SILENT", 0.05)
        patch.setattr(_cluster.Client, "_start", lambda self, address: Quiet())
        (tmp_path / "node-0").touch()
        _cluster.write(tmp_path / "address.json", {"attempt": "b", "address": "there:2", "beat": 0})
        fails(_cluster.Client(tmp_path, 0).run, "no server has been heard of for 0 s")


def test_whatever_goes_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task = tmp_path / "job/tasks/0"
    task.mkdir(parents=True)
    monkeypatch.setenv("LOWBIT_TASK", str(task))
    before = signal.getsignal(signal.SIGTERM)
    try:
        for error, expected in [
            (KeyError("clients"), "KeyError: 'clients'"),
            (RuntimeError("two\nlines"), "RuntimeError: two lines"),
            (AssertionError(), "AssertionError"),
            (OSError(28, "No space left"), "[Errno 28] No space left"),
        ]:

            def run(self: _cluster.Server, error: Exception = error) -> str:
                raise error

            monkeypatch.setattr(_cluster.Server, "run", run)
            assert _cluster.main(["server", "clients=2"]) == 1
            assert capsys.readouterr().err == f"error: {expected}\n"
            assert (task / "error.txt").read_text() == expected
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stat.S_IMODE((tmp_path / "job/flower").stat().st_mode) == 0o700


@whole
def test_a_server_that_is_told_to_end_leaves_no_key_and_no_address(tmp_path: Path) -> None:
    task = tmp_path / "job/tasks/0"
    task.mkdir(parents=True)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [LOWBIT, "flower", "server", "clients=1"], env={**os.environ, "LOWBIT_TASK": str(task)}, stdout=log, stderr=log
        )
    meeting = tmp_path / "job/flower"
    over = time.monotonic() + PATIENCE
    while not (meeting / "address.json").exists():
        assert time.monotonic() < over and process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    port = int(json.loads((meeting / "address.json").read_text())["address"].rpartition(":")[2])
    assert _cluster._listens(port)
    assert all(stat.S_IMODE((meeting / name).stat().st_mode) == 0o600 for name in ("server.key", "node-0"))
    process.terminate()
    # As if nothing had caught it; clients wait for the next server.
    assert process.wait(60) == -signal.SIGTERM
    assert not _cluster._listens(port)
    assert not {"address.json", "ended.json", "server.key", "node-0"} & {file.name for file in meeting.iterdir()}
