"""SE20: no key, token or private key is in the tree. What tests make up is made up in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("scar", "faas-supervisor", "tests", "docs", "examples", "benchmarks", ".ci")
# Access keys of AWS (but AWS's own example), private keys, tokens of GitHub, of Slack and of PyPI, and passwords in addresses
PATTERNS = {
    "an access key": re.compile(rb"\b(?:AKIA|ASIA)(?!IOSFODNN7EXAMPLE)[A-Z2-7]{16}\b"),
    "a private key": re.compile(rb"-----BEGIN (?:RSA |EC |OPENSSH |DSA )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"),
    "a token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{20,}|pypi-[A-Za-z0-9_-]{50,})"),
}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_secret_lies_in_the_tree(what: str) -> None:
    """SE20."""
    files = [
        path
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(files) > 500
    found = [str(path.relative_to(ROOT)) for path in files if PATTERNS[what].search(path.read_bytes())]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    assert PATTERNS["an access key"].search(b"key = " + b"AKIA" + b"Q" * 16)
    assert PATTERNS["a private key"].search(b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"M" * 64)
    assert PATTERNS["a token"].search(b"ghp_" + b"a" * 36)
