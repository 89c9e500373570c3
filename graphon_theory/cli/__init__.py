"""``graphon-theory``: the steps of the library from the command line."""

from graphon_theory.cli.applications import main

__all__ = ["main"]
