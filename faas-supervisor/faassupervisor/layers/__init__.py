"""Unpacking the layers of container images. Standard library only: the CLI's local AWS unpacks with the same code."""
