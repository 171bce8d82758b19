"""A real federation over loopback: the model of the command line to the bit, bytes at the socket, a node that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from loopback import Counter, Loopback  # noqa: E402

SMALL = ["limit=96", "image-size=32", 'model="resnet8"', "local-epochs=1", "batch-size=16"]
LIKEWISE = "--data landcover --limit 96 --image-size 32 --model resnet8 --local-epochs 1 --batch-size 16 --no-cache".split()
PATIENCE = 900
whole = pytest.mark.skipif("LOWBIT_FLOWER" not in os.environ, reason="takes minutes: LOWBIT_FLOWER=1")


def counted(folder: Path, rounds: int, bits: int) -> tuple[dict[str, object], int]:
    """A run with messages of `bits` bits, and the bytes between its nodes and the SuperLink."""
    with Loopback(folder, 0) as here:
        counter = Counter(here.port)
        here.nodes = 2
        for node in range(2):
            here.start_node(node, through=counter.port)
        here.submit(f"num-server-rounds={rounds}", f'up-bits="{bits}"', f'down-bits="{bits}"', *SMALL)
        return here.results(PATIENCE), counter.up + counter.down


def in_one_process(folder: Path, rounds: int, bits: int) -> Path:
    command = [str(Path(sys.executable).with_name("lowbit")), "federate", "--clients", "2", "--rounds", str(rounds)]
    command += ["--up-bits", str(bits), "--down-bits", str(bits), *LIKEWISE, "--out", str(folder), "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("8bit/run_*")
    return found


@pytest.fixture(scope="module")
def of_eight_bits(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], int]:
    return counted(tmp_path_factory.mktemp("flower"), 2, 8)


def messages(found: dict[str, object]) -> int:
    """Bytes of lowbit's messages in all rounds."""
    rounds = found["results_per_round"]
    assert isinstance(rounds, list)
    return sum(each["bytes_up"] + each["bytes_down"] for each in rounds)


def test_two_nodes_make_the_model_of_the_command_line_and_the_results_that_it_reads(
    of_eight_bits: tuple[dict[str, object], int], tmp_path: Path
) -> None:
    found, at_the_socket = of_eight_bits
    folder, expected = Path(str(found["folder"])), in_one_process(tmp_path / "one", 2, 8)
    for name in ("model_fp32.safetensors", "model_8bit.safetensors"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    # The same settings are the same run.
    assert folder.name == expected.name
    rounds = found["results_per_round"]
    assert isinstance(rounds, list) and [each["clients"] for each in rounds] == [2, 2]
    # What was counted as messages went over the socket, and Flower's own bytes.
    assert messages(found) < at_the_socket < messages(found) + 2_000_000
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("lowbit")), "analyze", str(folder.parents[1])], capture_output=True, text=True
    )
    assert shown.returncode == 0 and "resnet8" in shown.stdout, shown.stderr


def test_eight_bits_are_fewer_bytes_at_the_socket_than_32(of_eight_bits: tuple[dict[str, object], int], tmp_path: Path) -> None:
    bytes_of = {8: of_eight_bits, 32: counted(tmp_path, 2, 32)}
    for bits, (found, at_the_socket) in bytes_of.items():
        print(f"\n{bits} bits: {at_the_socket} at the socket, {messages(found)} of messages")
    assert bytes_of[8][1] < bytes_of[32][1] / 2


def test_a_node_that_is_killed_in_a_round_is_named_and_the_round_goes_on(tmp_path: Path) -> None:
    with Loopback(tmp_path, 2) as here:
        here.submit("num-server-rounds=3", "min-clients=1", "round-timeout=120", *SMALL[:-2], "local-epochs=12", "batch-size=4")
        log = tmp_path / "supernode-1.log"
        over = time.monotonic() + PATIENCE
        # The node's first training has begun when it holds the app and was asked twice (who it is, and to train).
        while log.read_text(errors="replace").count("Received") < 2 and time.monotonic() < over:
            time.sleep(0.1)
        here.kill("supernode-1")
        rounds = here.results(PATIENCE)["results_per_round"]
    assert isinstance(rounds, list) and [each["clients"] for each in rounds] == [1, 1, 1], rounds
    assert all(each["failures"][0]["client"] == 1 for each in rounds), rounds
    print("\n", [each["failures"] for each in rounds])


@whole
def test_with_certificates_and_registered_nodes_it_is_the_same_model(tmp_path: Path) -> None:
    here = tmp_path / "flower"
    here.mkdir()
    with Loopback(here, 2, secure=True) as secure:
        secure.submit("num-server-rounds=2", *SMALL)
        folder = Path(str(secure.results(PATIENCE)["folder"]))
    expected = in_one_process(tmp_path / "one", 2, 8)
    assert (folder / "model_8bit.safetensors").read_bytes() == (expected / "model_8bit.safetensors").read_bytes()
