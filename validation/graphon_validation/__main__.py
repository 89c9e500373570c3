"""``python -m graphon_validation EXPERIMENT --out DIR``."""

from __future__ import annotations

import sys

from graphon_validation.commands import main

if __name__ == "__main__":
    sys.exit(main())
