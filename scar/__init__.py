"""SCAR: run any container image on every file that lands in a bucket."""
