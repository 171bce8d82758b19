"""The command `lowbit`."""

from __future__ import annotations

import os
import shutil
import signal
import sys

from . import _lowbit


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    # Ctrl-C ends the command as it ends any program: Python would wait for the end of the call.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    script = sys.argv[0]
    if not os.path.isfile(script):
        script = shutil.which(script) or script
    if sys.argv[1:2] == ["flower"]:
        return _flower(sys.argv[2:])
    return _lowbit.command([script, *sys.argv[1:]], os.path.abspath(script), _lowbit.__file__)


def _flower(arguments: list[str]) -> int:
    """A task of a federation on Flower, which is Python."""
    try:
        from .flower._cluster import main as part
    except ImportError as error:
        line = f"a federation on Flower needs {error.name or 'flwr'}: pip install 'lowbit[flower]' ({' '.join(str(error).split())})"
        if task := os.environ.get("LOWBIT_TASK"):
            with open(os.path.join(task, "error.txt"), "w") as file:
                file.write(line)
        print(f"error: {line}", file=sys.stderr)
        return 1
    return part(arguments)
