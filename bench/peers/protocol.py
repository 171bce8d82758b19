"""The line protocol between run.py and the engines (README.md): the engines' side in `serve`, the driver's in `Server`."""

import os
import subprocess
import sys
import time


def serve(engines, log=sys.stderr):
    """Answers `NAME BATCH ITERATIONS` with `ok SECONDS_PER_ITERATION`, `list` with the names, until `quit`.

    `engines` maps names to functions that take a batch size and return a function to be timed; each is built on its
    first use, and its failure is an answer.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(log.fileno(), 1)  # libraries print; only answers may reach the driver
    built = {}
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        if words == ["list"]:
            print("ok", *engines, file=answers)
            continue
        try:
            name, batch, iterations = words[0], int(words[1]), int(words[2])
            if (name, batch) not in built:
                built[name, batch] = engines[name](batch)
            run = built[name, batch]
            start = time.perf_counter()
            for _ in range(iterations):
                run()
            print("ok", f"{(time.perf_counter() - start) / iterations:.9f}", file=answers)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print("error", reason[:300], file=answers)


class Server:
    """An engine's process; `ask` raises EngineError on everything but `ok`."""

    def __init__(self, command, log):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise EngineError(f"the process ended (exit code {self.process.wait()})")
        kind, _, rest = answer.strip().partition(" ")
        if kind != "ok":
            raise EngineError(rest or answer.strip())
        return rest

    def close(self):
        try:
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class EngineError(Exception):
    """An engine that is missing, or fails."""
