"""`python -m lowbit` is the command `lowbit`."""

import sys

from ._command import main

sys.exit(main())
