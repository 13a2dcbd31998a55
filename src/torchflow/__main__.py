"""``python -m torchflow``: the command of :mod:`torchflow.command`."""

from __future__ import annotations

import sys

from torchflow.command import main

if __name__ == "__main__":
    sys.exit(main())
