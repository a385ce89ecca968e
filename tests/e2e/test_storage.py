"""Storage with other credentials, through the product: written once, read by the function alone, kept over a restart, gone with it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.conftest import Local

CANARY = "canary-0b7e-of-another-account"
SCRIPT = """\
#!/usr/bin/env python3
import os, pathlib
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "a.txt").write_text("made")
print(dict(os.environ))
"""
DEFINITION = {
    "functions": {
        "aws": [
            {
                "lambda": {
                    "name": "elsewhere",
                    "init_script": "elsewhere.py",
                    "container": {"image": "scratch"},
                    "output": [{"path": "theirs/out", "storage_provider": "s3.other"}],
                }
            }
        ]
    },
    "storage_providers": {"s3": {"other": {"access_key": "OTHER", "secret_key": "${env.OTHER_SECRET}"}}},
}


def test_another_accounts_credentials_are_in_one_encrypted_parameter_and_nowhere_else(own_local: Local) -> None:
    """SE5: every file that the local AWS and the command keep is searched for the canary."""
    local = own_local
    (local.folder / "f.yaml").write_text(json.dumps(DEFINITION).replace("${env.OTHER_SECRET}", CANARY))
    (local.folder / "elsewhere.py").write_text(SCRIPT)
    shown = local.must("init", "-f", "f.yaml")
    local.client("s3").create_bucket(Bucket="theirs")
    run = local.must("run", "-n", "elsewhere")
    assert local.keys("theirs") == ["out/a.txt"]
    log = "\n".join(local.log("elsewhere"))
    assert not [text for text in (shown.out, shown.err, run.out, run.err, log) if CANARY in text]

    local.must("local", "down")
    assert local.must("plan", "-f", "f.yaml", "--detailed-exitcode").code == 0  # so it is there after a restart, too
    own = local.folder / "f.yaml"
    holding = [path for path in _files(local.folder.parent) if path != own and CANARY.encode() in path.read_bytes()]
    assert [path.name for path in holding] == ["ssm.snapshot"]
    assert holding[0].stat().st_mode & 0o077 == 0

    local.must("rm", "-n", "elsewhere")
    assert local.client("ssm").describe_parameters()["Parameters"] == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
