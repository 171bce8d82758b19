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
    return _lowbit.command([script, *sys.argv[1:]], os.path.abspath(script), _lowbit.__file__)
