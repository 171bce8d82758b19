"""A federation on Flower as tasks of a cluster: what the tasks of ``lowbit submit federate --transport flower`` do.

One task runs the SuperLink and the server, one each a SuperNode. They meet in a folder of the job that all nodes see, and which
only its owner may read: the server leaves there where it is, the certificate of its authority and a key for each client; in the
end, that it has ended. So tasks may start in any order, and one that is started again finds its way back.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .._errors import WireError

ADDRESS, ENDED = "address.json", "ended.json"
TASK = "LOWBIT_TASK"
"""Variable with the folder of this task's records (lowbit-jobs)."""
LATER = {"wait-for-nodes": "86400"}
"""Keys of the run's configuration that are others than the app's: a cluster's queue decides when nodes come."""
PAUSE = 0.5

_APP = {
    "cluster_app/__init__.py": "",
    "cluster_app/server_app.py": """from pathlib import Path

from flwr.serverapp import ServerApp

from lowbit.flower import serve
from lowbit.flower._cluster import write

app = ServerApp()


@app.main()
def main(grid, context):
    done = Path(context.run_config.pop("done"))
    try:
        write(done, {"folder": str(serve(grid, context))})
    except Exception as error:
        write(done, {"error": str(error) or type(error).__name__})
        raise
""",
    "cluster_app/client_app.py": """from flwr.clientapp import ClientApp

from lowbit.flower import answer, hello

app = ClientApp()


@app.query()
def query(message, context):
    return hello(message, context)


@app.train()
def train(message, context):
    context.run_config.pop("done", None)
    return answer(message, context)
""",
}
_PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "lowbit-cluster"
version = "0.1.0"
description = "lowbit's federation as tasks of a cluster"
license = { text = "MIT OR Apache-2.0" }
requires-python = ">=3.10"
dependencies = ["flwr", "lowbit"]

[tool.flwr.app]
publisher = "lowbit"

[tool.flwr.app.components]
serverapp = "cluster_app.server_app:app"
clientapp = "cluster_app.client_app:app"

[tool.flwr.app.config]
"""


def main(arguments: list[str]) -> int:
    """``lowbit flower server KEY=VALUE...`` or ``lowbit flower client NUMBER``, as a task; returns the exit code."""
    task = os.environ.get(TASK)
    try:
        if task is None or not arguments:
            raise WireError("lowbit flower: is a part of `lowbit submit federate --transport flower`, and runs as its task")
        folder = Path(task).parent.parent / "flower"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if arguments[0] == "server":
            print(f"results in {Server(folder, arguments[1:]).run()}", flush=True)
        else:
            Client(folder, int(arguments[1])).run()
    except (WireError, OSError, ValueError) as error:
        line = " ".join(str(error).split())
        if task is not None:
            (Path(task) / "error.txt").write_text(line)
        print(f"error: {line}", file=sys.stderr, flush=True)
        return 1
    return 0


def write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value))
    beside.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """Read JSON; none where there is none yet."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


class Child:
    """A program of Flower's, which ends with this process."""

    def __init__(self, log: Path, environment: dict[str, str], name: str, *arguments: str) -> None:
        self.name, self.log = name, log
        # Of the same installation as this package, wherever the task was started.
        program = Path(sys.executable).with_name(name)
        command = [str(program) if program.exists() else name, *arguments]
        with log.open("ab") as sink:
            try:
                self.process = subprocess.Popen(
                    command, stdout=sink, stderr=subprocess.STDOUT, env=environment, cwd=log.parent, preexec_fn=_die_together
                )
            except FileNotFoundError as error:
                raise WireError(f"{name} is not there: pip install 'lowbit[flower]'") from error

    def check(self) -> None:
        """Raise if it has ended."""
        if self.process.poll() is not None:
            raise WireError(f"{self.name} ended with {self.process.returncode}: {_last_line(self.log)}")

    def end(self) -> None:
        """Ask it to end, then make it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _die_together() -> None:
    # Linux: the kernel ends a process whose parent is gone, however it went.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _environment(home: Path) -> dict[str, str]:
    home.mkdir(mode=0o700, exist_ok=True)
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


class Server:
    """The SuperLink, and the app that runs on it."""

    def __init__(self, folder: Path, config: list[str]) -> None:
        self.folder, self.config = folder, dict(pair.split("=", 1) for pair in config)
        self.attempt = uuid.uuid4().hex
        self.done = folder / f"done-{self.attempt}.json"
        self.link: Child | None = None

    def run(self) -> str:
        """Serve until the app has its results; returns their folder."""
        for name in (ADDRESS, ENDED):
            (self.folder / name).unlink(missing_ok=True)
        ended: dict[str, Any] = {"attempt": self.attempt, "error": "the server ended early"}
        try:
            found = self._serve()
            ended = {"attempt": self.attempt, "folder": found}
            return found
        except Exception as error:
            ended["error"] = str(error)
            raise
        finally:
            # Clients look for it, and end as well: before the SuperLink does, which their SuperNodes would miss.
            write(self.folder / ENDED, ended)
            (self.folder / ADDRESS).unlink(missing_ok=True)
            if self.link is not None:
                self.link.end()

    def _serve(self) -> str:
        names = _own_names()
        certify(self.folder, names)
        port = _free_port()
        environment = _environment(self.folder / f"home-{self.attempt}")
        here = f"127.0.0.1:{port}"
        trust = json.dumps(str(self.folder / "ca.crt"))
        (Path(environment["FLWR_HOME"]) / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{here}"\nroot-certificates = {trust}\n'
        )
        self.link = link = Child(
            self.folder / "superlink.log", environment, "flower-superlink",
            "--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key", "--ssl-ca-certfile", "ca.crt",
            "--enable-supernode-auth", "--host", "0.0.0.0", "--port", str(port), "--disable-runtime-dependency-installation",
        )  # fmt: skip
        while not _listens(port):
            link.check()
            time.sleep(PAUSE)
        for client in range(int(self.config["clients"])):
            key = node_key(self.folder, client)
            self._call(environment, "flwr", "supernode", "register", f"{key}.pub", "here")
        write(self.folder / ADDRESS, {"attempt": self.attempt, "address": f"{names[0]}:{port}"})
        print(f"SuperLink at {names[0]}:{port}, waiting for {self.config['clients']} clients", flush=True)
        self._call(environment, "flwr", "run", str(self._app()), "here")
        while (found := read(self.done)) is None:
            link.check()
            time.sleep(PAUSE)
        if "error" in found:
            raise WireError(str(found["error"]))
        return str(found["folder"])

    def _app(self) -> Path:
        """The app, with this run's configuration."""
        app = self.folder / f"app-{self.attempt}"
        shutil.rmtree(app, ignore_errors=True)
        for name, text in _APP.items():
            (app / name).parent.mkdir(parents=True, exist_ok=True)
            (app / name).write_text(text)
        config = {**LATER, **self.config, "done": json.dumps(str(self.done))}
        lines = "".join(f"{key} = {value}\n" for key, value in config.items())
        (app / "pyproject.toml").write_text(_PROJECT + lines)
        return app

    def _call(self, environment: dict[str, str], name: str, *arguments: str) -> None:
        log = self.folder / "calls.log"
        call = Child(log, environment, name, *arguments)
        if call.process.wait() != 0:
            raise WireError(f"{name} {arguments[0]} ended with {call.process.returncode}: {_last_line(log)}")


class Client:
    """A SuperNode."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def run(self) -> None:
        """Serve until the federation has ended."""
        node: Child | None = None
        joined = None
        try:
            while True:
                ended, place = read(self.folder / ENDED), read(self.folder / ADDRESS)
                # An end that an earlier server has left says nothing about the next one, unless it came to results.
                if ended is not None and ("error" not in ended or ended["attempt"] == joined):
                    if "error" in ended:
                        raise WireError(f"the server failed: {ended['error']}")
                    return
                if place is not None and place["attempt"] != joined:
                    if node is not None:
                        node.end()
                    node, joined = self._start(place["address"]), place["attempt"]
                if node is not None:
                    node.check()
                time.sleep(PAUSE)
        finally:
            if node is not None:
                node.end()

    def _start(self, address: str) -> Child:
        print(f"client {self.number} goes to the SuperLink at {address}", flush=True)
        return Child(
            self.folder / f"client-{self.number}.log", _environment(self.folder / f"home-client-{self.number}"),
            "flower-supernode", "--superlink", address, "--root-certificates", "ca.crt",
            "--auth-supernode-private-key", str(node_key(self.folder, self.number)),
            "--host", "127.0.0.1", "--port", str(_free_port()), "--node-config", f"partition-id={self.number}",
        )  # fmt: skip


def _own_names() -> list[str]:
    """This machine as others reach it: its name first."""
    name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        name = socket.gethostname()
    names = [name, socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1"]
    try:
        names += [str(info[4][0]) for info in socket.getaddrinfo(name, None, socket.AF_INET)]
    except OSError:
        pass
    return list(dict.fromkeys(names))


def node_key(folder: Path, client: int) -> Path:
    """The private key of a client's node, made where there is none; its public key stands beside it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / f"node-{client}"
    public = folder / f"node-{client}.pub"
    if not (path.exists() and public.exists()):
        key = ec.generate_private_key(ec.SECP384R1())
        form = serialization.PrivateFormat.OpenSSH
        _secret(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    return path


def certify(folder: Path, names: list[str]) -> None:
    """Make an authority, and a certificate of the SuperLink's under these names that it signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(timezone.utc)

    def certificate(subject: str, issuer: str, key: Any, signer: Any, *extensions: tuple[Any, bool]) -> bytes:
        def name(text: str) -> Any:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        # Clocks of a cluster differ.
        made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=60))
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def alternative(text: str) -> Any:
        try:
            return x509.IPAddress(ipaddress.ip_address(text))
        except ValueError:
            return x509.DNSName(text)

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = "lowbit job"
    root = (x509.BasicConstraints(ca=True, path_length=0), True)
    (folder / "ca.crt").write_bytes(certificate(issuer, issuer, authority, authority, root))
    others = (x509.SubjectAlternativeName([alternative(each) for each in names]), False)
    (folder / "server.pem").write_bytes(certificate(names[0][:64], issuer, server, authority, others))
    form = serialization.PrivateFormat.PKCS8
    _secret(folder / "server.key", server.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
