"""SCAR: run any container image on every file that lands in a bucket."""

__version__ = "5.0.0.dev0"  # the one place; reading the installed metadata instead would cost each start 20 ms
