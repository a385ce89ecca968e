"""Log lines of local functions are CloudWatch's, many are cheap, and they outlive the daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from local_daemon import Running

# moto is one per process: each of these runs in a Python of its own, as the daemon does.
WRITE = """
import sys, time, json
from pathlib import Path
from scar.local.logs import LogSink
from moto.logs.models import logs_backends
from scar.local import services
def sink(**k):
    s = LogSink(Path(sys.argv[1]) / "logs", **k); s.install(); return s
def groups(): return logs_backends["123456789012"]["us-east-1"].groups
"""


def run(folder: Path, code: str) -> str:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", WRITE + code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOAD = """
s = LogSink(Path(sys.argv[1]) / "logs"); s.install()
logs_backends["123456789012"]["us-east-1"].create_log_group("/g", {})
s.load()
"""


def test_a_hundred_thousand_lines_are_written_quickly_and_read_back(tmp_path):
    seconds = run(
        tmp_path,
        "s = sink(); t = time.time()\n"
        "for n in range(100): s.put('/g', 'stream', [(n * 1000 + i, f'line {n * 1000 + i}') for i in range(1000)])\n"
        "s.flush(); print(time.time() - t)",
    )
    assert float(seconds) < 10
    found = run(
        tmp_path, LOAD + "e = groups()['/g'].streams['stream'].events; print(len(e), e[0].message, e[-1].message)"
    )
    assert found.strip() == "100000 line 0 line 99999"


def test_a_line_that_was_being_written_is_left_out_and_those_before_are_kept(tmp_path):
    run(tmp_path, "s = sink(); s.put('/g', 'a', [(1, 'one'), (2, 'two\\nwith newline \\u2028 é')])")
    (file,) = (tmp_path / "logs").iterdir()
    file.write_bytes(file.read_bytes() + b'["a",3,"thr')
    found = run(tmp_path, LOAD + "print(json.dumps([e.message for e in groups()['/g'].streams['a'].events]))")
    assert found.strip() == '["one", "two\\nwith newline \\u2028 \\u00e9"]'


def test_after_a_torn_line_new_lines_are_not_lost(tmp_path):
    run(tmp_path, "s = sink(); s.put('/g', 'a', [(1, 'one')])")
    (file,) = (tmp_path / "logs").iterdir()
    file.write_bytes(file.read_bytes() + b'["a",3,"thr')
    run(tmp_path, LOAD + "s.put('/g', 'a', [(4, 'four')])")
    found = run(tmp_path, LOAD + "print([e.message for e in groups()['/g'].streams['a'].events])")
    assert found.strip() == "['one', 'four']"


def test_the_last_words_of_a_sandbox_do_not_bring_a_deleted_group_back(tmp_path):
    found = run(
        tmp_path,
        "s = sink(); s.put('/g', 'a', []); s.put('/g', 'a', [(1, 'one')], make=False); print(sorted(groups()))\n"
        "from moto.logs.models import logs_backends\n"
        "logs_backends['123456789012']['us-east-1'].delete_log_group('/g')\n"
        "s.put('/g', 'a', [(2, 'two')], make=False); print(sorted(groups()))",
    )
    assert found.splitlines() == ["['/g']", "[]"]


def test_a_group_that_grows_too_large_loses_its_oldest_half(tmp_path):
    found = run(
        tmp_path,
        "s = sink(group_bytes=20000)\n"
        "for n in range(1000): s.put('/g', f's{n % 3}', [(n, f'line {n}')])\n"
        "print(max(e.timestamp for st in groups()['/g'].streams.values() for e in st.events), len(groups()['/g'].streams))",
    )
    assert found.split() == ["999", "3"]
    (file,) = (tmp_path / "logs").iterdir()
    assert file.stat().st_size < 21_000


@pytest.mark.parametrize("what", ["group", "stream"])
def test_what_was_deleted_stays_deleted(stopped: Running, what):
    daemon = stopped.start()
    logs = daemon.client("logs")
    for group in ("/kept", "/gone"):
        logs.create_log_group(logGroupName=group)
        for stream in ("kept", "gone"):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
    if what == "group":
        logs.delete_log_group(logGroupName="/gone")
    else:
        logs.delete_log_stream(logGroupName="/kept", logStreamName="gone")
    daemon.kill()
    logs = daemon.start().client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    assert groups == (["/kept"] if what == "group" else ["/gone", "/kept"])
    streams = [stream["logStreamName"] for stream in logs.describe_log_streams(logGroupName="/kept")["logStreams"]]
    assert streams == (["gone", "kept"] if what == "group" else ["kept"])
