"""``python -m graphon_validation EXPERIMENT --out DIR``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; an interrupt while packages are imported ends it in one line too."""
    try:
        from graphon_validation import commands
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return commands.main()


if __name__ == "__main__":
    sys.exit(main())
