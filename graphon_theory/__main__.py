"""``python -m graphon_theory``: the command line."""

from __future__ import annotations

import sys

from graphon_theory.cli import main

if __name__ == "__main__":
    sys.exit(main())
