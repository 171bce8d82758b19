"""A federation on this machine: a SuperLink, SuperNodes, and the app, over loopback.

    python flower/loopback.py --nodes 2 --out outputs num-server-rounds=3 'data="landcover"' limit=200

What is checked is the file of results: the exit code of `flwr run` can be 0 after a failure. The app runs from a copy, since
`flwr run` rewrites its pyproject.toml.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

APP = Path(__file__).resolve().parent


class Loopback:
    """The processes of a federation, ended together."""

    def __init__(self, folder: Path, nodes: int, secure: bool = False, app: Path = APP) -> None:
        """`secure`: with TLS, and nodes that are registered beforehand, as between real machines; `app`: another than lowbit's."""
        self.folder, self.nodes, self.secure = folder, nodes, secure
        self.out = folder / "outputs"
        self.app = folder / "app"
        other = ("measure.py",) if app != APP else ("tests", "loopback.py", "quickstart")
        leave = shutil.ignore_patterns("__pycache__", *other)
        shutil.copytree(app, self.app, ignore=leave)
        home = folder / "home"
        home.mkdir()
        self.port = _free_port()
        trust = f'root-certificates = "{folder / "ca.crt"}"' if secure else "insecure = true"
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\n{trust}\n'
        )
        self.environment = {
            **os.environ,
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: list[IO[bytes]] = []

    def __enter__(self) -> Loopback:
        how = ["--insecure"]
        if self.secure:
            self._certify()
            how = ["--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key", "--ssl-ca-certfile", "ca.crt"]
            how += ["--enable-supernode-auth"]
        self.start("superlink", "flower-superlink", *how, "--host", "127.0.0.1", "--port", str(self.port),
                   "--disable-runtime-dependency-installation")  # fmt: skip
        _wait_for_port(self.port)
        for node in range(self.nodes):
            self.start_node(node)
        return self

    def start_node(self, node: int, through: int | None = None) -> None:
        """Start a SuperNode; it reaches the SuperLink at another port if `through` says so."""
        how = ["--insecure"]
        if self.secure:
            key = self.folder / f"node-{node}"
            self._call("ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key))
            self._call("flwr", "supernode", "register", f"{key}.pub", "here")
            how = ["--root-certificates", "ca.crt", "--auth-supernode-private-key", str(key)]
        self.start(f"supernode-{node}", "flower-supernode", *how, "--superlink", f"127.0.0.1:{through or self.port}",
                   "--host", "127.0.0.1", "--port", str(_free_port()), "--node-config", f"partition-id={node}")  # fmt: skip

    def _certify(self) -> None:
        """Make an authority, and a certificate of the SuperLink's that it signs."""
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._call("openssl", "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=lowbit test")
        self._call("openssl", "req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
        (self.folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._call("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                   "-days", "2", "-extfile", "server.ext", "-out", "server.pem")  # fmt: skip

    def _call(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        self.logs.append(log)
        self.processes[name] = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=self.environment, cwd=self.folder, start_new_session=True
        )

    def kill(self, name: str) -> None:
        """End a process and all that it started, at once."""
        try:
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.processes.pop(name).wait()

    def submit(self, *config: str) -> None:
        """Submit the app, with entries `key=value` of the run's configuration, in TOML."""
        given = " ".join([f'out="{self.out}"', f"clients={self.nodes}", *config])
        done = subprocess.run(
            ["flwr", "run", str(self.app), "here", "--run-config", given],
            env=self.environment, cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip
        (self.folder / "run.log").write_text(done.stdout + done.stderr)
        # That it is 0 says nothing.
        if done.returncode != 0:
            raise RuntimeError(f"flwr run ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def results(self, seconds: float) -> dict[str, object]:
        """Wait for the results of a run."""
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            for file in self.out.glob("*bit/run_*/training_results.json"):
                found: dict[str, object] = json.loads(file.read_text())
                return {**found, "folder": str(file.parent)}
            time.sleep(0.5)
        raise TimeoutError(f"no results after {seconds:.0f} s:\n{self.tails()}")

    def tails(self) -> str:
        """The ends of all logs."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.processes)):
            self.kill(name)
        for log in self.logs:
            log.close()


class Counter:
    """A proxy that counts the bytes of all connections to a port, in either direction."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.up = self.down = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._carry, args=(here, there, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(there, here, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if up:
                    self.up += len(data)
                else:
                    self.down += len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for_port(port: int, seconds: float = 120) -> None:
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nobody listens at port {port} after {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="SuperNodes, a client each")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="where the results go")
    parser.add_argument("--seconds", type=float, default=3600, help="how long to wait for them")
    parser.add_argument("config", nargs="*", help="key=value of the run's configuration, in TOML")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lowbit-flower-") as folder, Loopback(Path(folder), given.nodes) as here:
        here.out = given.out.resolve()
        here.submit(*given.config)
        found = here.results(given.seconds)
        print(f"{100 * float(found['final_test_accuracy']):.2f} % test accuracy; results in {found['folder']}")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
