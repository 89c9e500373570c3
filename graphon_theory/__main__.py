"""``graphon-theory`` and ``python -m graphon_theory``: the command line."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; an interrupt while packages are imported ends it in one line too."""
    try:
        from graphon_theory import cli
    except KeyboardInterrupt:
        print("graphon-theory: interrupted", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
