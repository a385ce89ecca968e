"""A function from flags alone, warmed up by `init`; and files that runs share through a file system."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import Local

COW = """\
#!/opt/scar/bin/python3
import os, sys
sys.exit(int(os.environ["CODE"]) if os.environ["WHO"] == "a=b" else 1)
"""
COUNTS = """\
#!/opt/scar/bin/python3
import pathlib
seen = sorted(each.name for each in pathlib.Path("/mnt/shared").iterdir())
pathlib.Path("/mnt/shared", f"run-{len(seen)}").touch()
print("before:", *seen)
"""
SHARES = """\
functions:
  aws:
    - lambda:
        name: shares
        init_script: counts.py
        container: {image: scratch}
        vpc: {SubnetIds: [subnet-1a2b3c4d], SecurityGroupIds: [sg-1a2b3c4d]}
        file_system:
          - Arn: arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0
            LocalMountPath: /mnt/shared
"""


def test_a_function_of_flags_alone_is_run_once_and_its_failure_is_that_of_init(local: Local) -> None:
    Path(local.folder, "cow.py").write_text(COW)
    done = local.scar("init", "-n", "cow", "-i", "scratch", "-s", "cow.py", "-ph", "-e", "WHO=a=b", "-e", "CODE=7")
    assert done.code == 7
    assert "+ function cow" in done.out
    assert "cow was made, but its first run failed" in done.err


def test_runs_share_files_through_the_file_system(local: Local) -> None:
    Path(local.folder, "counts.py").write_text(COUNTS)
    Path(local.folder, "shares.yaml").write_text(SHARES)
    made = local.must("init", "-f", "shares.yaml", "--preheat")
    assert "shares: its first run succeeded" in made.err
    assert local.must("run", "-n", "shares").out.strip() == "before: run-0"
