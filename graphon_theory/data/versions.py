"""The version that results carry."""

__version__ = "0.1.0"
