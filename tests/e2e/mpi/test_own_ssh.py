"""A script that was written for SCAR 4 still works: it runs on every node, brings keys in its input, and makes its own way with ssh.

There was nothing else then: each node started a server for ssh, the workers told the main node their addresses by it, and mpirun was given the
list. Here the script is of that kind, in its own words, and ends as mpirun ended.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.mpi import images
from tests.e2e.mpi.gangs import Gangs, function, hosts

NAME = "own-ssh"
NODES = {"number_nodes": 3, "script_on_workers": True, "input_on_workers": True}
SCRIPT = r"""#!/bin/sh
set -eu
own=/tmp/own-ssh
mkdir -p -m 700 $own /run/sshd
tar -xf "$INPUT_FILE_PATH" -C $own
chmod 600 $own/key
/usr/sbin/sshd -p 2222 -h $own/key -o "AuthorizedKeysFile $own/key.pub" -o 'StrictModes no' -o 'UsePAM no' -o "PidFile $own/pid"
remote="ssh -p 2222 -i $own/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"

if [ "$AWS_BATCH_JOB_NODE_INDEX" != "$AWS_BATCH_JOB_MAIN_NODE_INDEX" ]; then
    until $remote "$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" "echo $INSTANCE_IP slots=1 >>$own/machines"; do sleep 0.2; done
    until [ -e $own/finished ]; do sleep 0.2; done
    exit 0
fi

echo "$INSTANCE_IP slots=1" >>$own/machines
waited=0
until [ "$(wc -l <$own/machines)" = "$AWS_BATCH_JOB_NUM_NODES" ]; do
    waited=$((waited + 1))
    [ $waited -lt 150 ] || { echo "not all nodes came" >&2; exit 9; }
    sleep 0.2
done
code=0
mpirun --machinefile $own/machines --mca plm_rsh_agent "$remote" poisson $own/parameters "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH" .tar).txt" || code=$?
for machine in $(cut -d ' ' -f 1 $own/machines); do $remote "$machine" touch $own/finished; done
exit $code
"""


@pytest.fixture(scope="module")
def ssh(gangs: Gangs) -> Gangs:
    (gangs.local.folder / "own-ssh.sh").write_text(SCRIPT)
    body = function(NAME, images.stored(images.OPEN_MPI_AND_SSHD), NODES)
    gangs.deploy("own-ssh.yaml", body | {"lambda": body["lambda"] | {"init_script": "own-ssh.sh"}})
    return gangs


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made], check=True)
    return made


def archive(key: Path, parameters: str) -> bytes:
    raw = io.BytesIO()
    files = {
        "key": key.read_bytes(),
        "key.pub": key.with_suffix(".pub").read_bytes(),
        "parameters": parameters.encode(),
    }
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def test_a_script_with_keys_and_a_server_of_its_own_works(ssh: Gangs, key: Path) -> None:
    """T1-21, MP7: the script runs on each node, which has the input too. The main node alone publishes."""
    job_id = ssh.put_bytes(NAME, "right.tar", archive(key, "grid = 12\n"))
    job = ssh.job(job_id)
    assert job["status"] == "SUCCEEDED", ssh.lines(job_id, 0)
    assert len(set(hosts(ssh.output(NAME, "right.txt").splitlines()))) == 3
    assert ssh.published(NAME, "right.txt") == 1


def test_and_when_mpirun_fails_so_does_the_job(ssh: Gangs, key: Path) -> None:
    """T1-21, MP6: the solver says that it was wrong."""
    job_id = ssh.put_bytes(NAME, "wrong.tar", archive(key, "grid = 12\niterations = 1\n"))
    job = ssh.job(job_id)
    assert (job["status"], job["attempts"][-1]["container"]["exitCode"]) == ("FAILED", 1)
    assert any("WRONG: 3 ranks" in line for line in ssh.lines(job_id, 0))
    assert ssh.published(NAME, "wrong.txt") == 0
