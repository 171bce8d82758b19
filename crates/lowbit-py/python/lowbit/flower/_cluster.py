"""A federation on Flower as tasks of a cluster: what the tasks of ``lowbit submit federate --transport flower`` do.

One task runs the SuperLink and the server, one each a SuperNode. They meet in a folder of the job that all nodes see, and which
only its owner may read: the server leaves there where it is, the certificate of its authority and a key for each client; in the
end, that it has ended, and no key. So tasks may start in any order, and one that is started again finds its way back.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from .._errors import WireError
from .._settings import text
from . import _keys

ADDRESS, ENDED = "address.json", "ended.json"
TASK = "LOWBIT_TASK"
"""Variable with the folder of this task's records (lowbit-jobs)."""
LATER = {"wait-for-nodes": "86400"}
"""Keys of the run's configuration that are others than the app's: a cluster's queue decides when nodes come."""
PAUSE = 0.5
START, CALL, BEGIN = 120.0, 600.0, 900.0
"""Seconds until a SuperLink listens, a command of Flower's has ended, and the app has begun, at most."""
BEAT = 30.0
"""Seconds between two signs of life of the server."""
COMES, SILENT = 86400.0, 3600.0
"""Seconds that a client waits for a server to come, and for the next sign of life of the one that it joined."""
STILL_ONLINE = "Failed to activate SuperNode"
"""What a SuperNode says whom the SuperLink holds for online: one that was killed, until it has been silent for a minute."""
TAKEN, AGAIN = 180.0, 5.0
"""Seconds in which such a client tries again, and between two trials."""

_APP = {
    "cluster_app/__init__.py": "",
    "cluster_app/server_app.py": """import os
from pathlib import Path

from flwr.serverapp import ServerApp

from lowbit.flower import serve
from lowbit.flower._cluster import line, write

app = ServerApp()


@app.main()
def main(grid, context):
    done = Path(context.run_config.pop("done"))
    write(done, {"process": os.getpid()})
    try:
        write(done, {"folder": str(serve(grid, context))})
    except Exception as error:
        write(done, {"error": line(error)})
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


class Terminated(BaseException):
    """SIGTERM: of a queue that ends the task, to run it again or not."""


def main(arguments: list[str]) -> int:
    """``lowbit flower server KEY=VALUE...`` or ``lowbit flower client NUMBER``, as a task; returns the exit code."""
    task = os.environ.get(TASK)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if task is None or arguments[:1] not in (["server"], ["client"]):
            raise WireError("lowbit flower: is a part of `lowbit submit federate --transport flower`, and runs as its task")
        folder = Path(task).parent.parent / "flower"
        _keys.private_folder(folder)
        if arguments[0] == "server":
            print(f"results in {Server(folder, arguments[1:]).run()}", flush=True)
        else:
            Client(folder, _number(arguments[1:])).run()
    # The last line of defense: whatever it is, a user reads one line.
    except Exception as error:
        if task is not None:
            (Path(task) / "error.txt").write_text(line(error))
        print(f"error: {line(error)}", file=sys.stderr, flush=True)
        return 1
    except Terminated:
        # As if it had not been caught: whoever sent it looks at how this process ended.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return 0


def _terminate(*_: object) -> None:
    raise Terminated


def _number(arguments: list[str]) -> int:
    if len(arguments) != 1 or not arguments[0].isdecimal():
        raise WireError(f"lowbit flower client {' '.join(arguments)}: expected the number of a client")
    return int(arguments[0])


def line(error: Exception) -> str:
    """An error as one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, (WireError, OSError, ValueError)) and said else f"{type(error).__name__}: {said}".rstrip(": ")


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
        self.said = " ".join([name, *arguments[:2]])
        # Of the same installation as this package, wherever the task was started.
        program = Path(sys.executable).with_name(name)
        command = [str(program) if program.exists() else name, *arguments]
        self._begun = log.stat().st_size if log.exists() else 0
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

    def says(self, what: str) -> bool:
        """Whether it has said this since it was started."""
        return what.encode() in self.log.read_bytes()[self._begun :]

    def wait(self, seconds: float) -> None:
        """Wait for a good end of it."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.end()
            raise WireError(f"{self.said} did not end within {seconds:.0f} s: {_last_line(self.log)}") from error
        if code != 0:
            raise WireError(f"{self.said} ended with {code}: {_last_line(self.log)}")

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
    if not log.exists():
        return "it said nothing"
    # Flower colors its errors, and draws a box around them.
    said = re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", "", log.read_text(errors="replace"))
    lines = [line.strip() for line in said.splitlines() if any(map(str.isalpha, line))]
    return lines[-1] if lines else "it said nothing"


def _toml(value: Path) -> str:
    """A path as a string of TOML, which has no pairs of surrogates, and no bare DEL."""
    return json.dumps(text("out", value), ensure_ascii=False).replace("\x7f", "\\u007f")


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
        self.folder = folder
        wrong = [pair for pair in config if "=" not in pair]
        if wrong:
            raise WireError(f"lowbit flower server {wrong[0]}: expected KEY=VALUE")
        self.config = {**LATER, **dict(pair.split("=", 1) for pair in config)}
        self.attempt = uuid.uuid4().hex
        self.done = folder / f"done-{self.attempt}.json"
        self.link: Child | None = None

    def run(self) -> str:
        """Serve until the app has its results; returns their folder."""
        for name in (ADDRESS, ENDED):
            (self.folder / name).unlink(missing_ok=True)
        try:
            found = self._serve()
            self._end({"folder": found})
            return found
        except Exception as error:
            self._end({"error": line(error)})
            raise
        finally:
            # All that clients could still find here is an end: keys and addresses of a server that is gone help nobody.
            (self.folder / ADDRESS).unlink(missing_ok=True)
            if self.link is not None:
                self.link.end()
            _keys.forget(self.folder)
            self.done.unlink(missing_ok=True)
            for name in ("app", "home"):
                shutil.rmtree(self.folder / f"{name}-{self.attempt}", ignore_errors=True)

    def _end(self, how: dict[str, Any]) -> None:
        """Tell the clients, which look for it, and end as well: before the SuperLink does, which their SuperNodes would miss."""
        write(self.folder / ENDED, {"attempt": self.attempt, **how})

    def _serve(self) -> str:
        names = _own_names()
        _keys.certify(self.folder, names)
        port = _free_port()
        environment = _environment(self.folder / f"home-{self.attempt}")
        here = f"127.0.0.1:{port}"
        trust = _toml(self.folder / "ca.crt")
        (Path(environment["FLWR_HOME"]) / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{here}"\nroot-certificates = {trust}\n',
            encoding="utf-8",
        )
        self.link = link = Child(
            self.folder / "superlink.log", environment, "flower-superlink",
            "--ssl-certfile", "server.pem", "--ssl-keyfile", _keys.SERVER_KEY, "--ssl-ca-certfile", "ca.crt",
            "--enable-supernode-auth", "--host", "0.0.0.0", "--port", str(port), "--disable-runtime-dependency-installation",
        )  # fmt: skip
        over = time.monotonic() + START
        while not _listens(port):
            link.check()
            if time.monotonic() > over:
                raise WireError(f"flower-superlink does not listen at port {port} after {START:.0f} s: {_last_line(link.log)}")
            time.sleep(PAUSE)
        for client in range(self._setting("clients", 10)):
            key = _keys.node_key(self.folder, client)
            self._call(environment, "flwr", "supernode", "register", f"{key}.pub", "here")
        place = {"attempt": self.attempt, "address": f"{names[0]}:{port}"}
        write(self.folder / ADDRESS, {**place, "beat": 0})
        print(f"SuperLink at {names[0]}:{port}, waiting for {self.config['clients']} clients", flush=True)
        self._call(environment, "flwr", "run", str(self._app()), "here")
        return self._results(place)

    def _results(self, place: dict[str, str]) -> str:
        """Wait for the app's end, as long as it lives; returns the folder of its results."""
        begun = time.monotonic()
        # Longer than all rounds together cannot take: one waits for nodes, and one for each round's answers; the server's own
        # part of a round is given as much.
        most = self._setting("wait-for-nodes", 300) + 2 * self._setting("num-server-rounds", 5) * self._setting("round-timeout", 3600)
        beat = 0
        while True:
            found, waited = read(self.done) or {}, time.monotonic() - begun
            if "error" in found:
                raise WireError(str(found["error"]))
            if "folder" in found:
                return str(found["folder"])
            if self.link is not None:
                self.link.check()
            wrong = None
            if not found and waited > BEGIN:
                wrong = f"the app has not begun after {BEGIN:.0f} s"
            # What it wrote last, it wrote before it was gone.
            elif found and not _lives(found["process"]) and read(self.done) == found:
                wrong = f"the app's process {found['process']} is gone, and has left no results"
            elif waited > BEGIN + most:
                wrong = f"no results after {BEGIN + most:.0f} s, which is more than all rounds may take"
            if wrong is not None:
                raise WireError(f"{wrong}: {_last_line(self.folder / 'superlink.log')}")
            if waited > (beat + 1) * BEAT:
                beat += 1
                write(self.folder / ADDRESS, {**place, "beat": beat})
            time.sleep(PAUSE)

    def _setting(self, key: str, default: int) -> int:
        said = self.config.get(key, str(default))
        try:
            return math.ceil(float(said))
        except (OverflowError, ValueError) as error:
            raise WireError(f"{key}={said}: must be a number") from error

    def _app(self) -> Path:
        """The app, with this run's configuration."""
        app = self.folder / f"app-{self.attempt}"
        shutil.rmtree(app, ignore_errors=True)
        for name, content in _APP.items():
            (app / name).parent.mkdir(parents=True, exist_ok=True)
            (app / name).write_text(content)
        config = {**self.config, "done": _toml(self.done)}
        lines = "".join(f"{key} = {value}\n" for key, value in config.items())
        (app / "pyproject.toml").write_text(_PROJECT + lines, encoding="utf-8")
        return app

    def _call(self, environment: dict[str, str], name: str, *arguments: str) -> None:
        Child(self.folder / "calls.log", environment, name, *arguments).wait(CALL)


class Client:
    """A SuperNode."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def run(self) -> None:
        """Serve until the federation has ended."""
        node: Child | None = None
        joined = heard = None
        since = patience = time.monotonic()
        # An end that an earlier server has left says nothing about the next one, unless it came to results.
        left = (read(self.folder / ENDED) or {}).get("attempt")
        try:
            while True:
                ended, place = read(self.folder / ENDED), read(self.folder / ADDRESS)
                if ended is not None and ("error" not in ended or ended["attempt"] == joined or ended["attempt"] != left):
                    if "error" in ended:
                        raise WireError(f"the server failed: {ended['error']}")
                    return
                if place is not None and place != heard:
                    heard, since = place, time.monotonic()
                    # The key is there before the address; it is gone where the server has just ended.
                    if place["attempt"] != joined and _keys.key_of(self.folder, self.number).exists():
                        if node is not None:
                            node.end()
                        node, joined = self._start(place["address"]), place["attempt"]
                        patience = time.monotonic() + TAKEN
                silence, most = time.monotonic() - since, COMES if joined is None else SILENT
                if silence > most:
                    which = "has come" if joined is None else "has been heard of"
                    raise WireError(f"no server {which} for {most:.0f} s: is the task of the server there? See `lowbit jobs`")
                try:
                    if node is not None:
                        node.check()
                except WireError:
                    if heard is None or node is None or not node.says(STILL_ONLINE) or time.monotonic() > patience:
                        raise
                    print(f"client {self.number}: its task before this one still counts as online; trying again", flush=True)
                    time.sleep(AGAIN)
                    node = self._start(heard["address"])
                time.sleep(PAUSE)
        finally:
            if node is not None:
                node.end()
            shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _home(self) -> Path:
        return self.folder / f"home-client-{self.number}"

    def _start(self, address: str) -> Child:
        print(f"client {self.number} goes to the SuperLink at {address}", flush=True)
        return Child(
            self.folder / f"client-{self.number}.log", _environment(self._home),
            "flower-supernode", "--superlink", address, "--root-certificates", "ca.crt",
            "--auth-supernode-private-key", str(_keys.key_of(self.folder, self.number)),
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


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # Z: it has ended, and its parent has not looked.
    return state != "Z"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
