"""The five promises of `spec.Sandbox`, kept by every engine that this machine can run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_trials import AS_ROOT, ENGINES, Runner, processes_with

from scar.local.sandbox import Engine

every_engine = pytest.mark.parametrize("runner", ENGINES, indirect=True)
REPOSITORY = Path(__file__).parents[3]


def until(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@every_engine
def test_output_and_errors_come_in_the_order_written_and_end_with_the_tree(runner: Runner) -> None:
    code, said = runner.run("echo one; echo two >&2; echo three; exit 5")
    lines = said.splitlines()
    if runner.engine.name == "podman":  # carries the two apart, as its note says
        lines.sort(key=["one", "two", "three"].index)
    assert (code, lines) == (5, ["one", "two", "three"])


@every_engine
def test_waiting_answers_none_while_the_tree_runs_and_the_end_afterwards(runner: Runner) -> None:
    sandbox = runner.start("echo up; sleep 30")
    assert sandbox.output.readline() == b"up\n"
    assert sandbox.wait(0.05) is None
    sandbox.kill()
    ended = sandbox.wait()
    assert ended is not None
    assert ended.exit_code == 137
    assert not ended.out_of_memory


@every_engine
def test_kill_leaves_nothing_of_a_tree_that_ignores_signals_and_detaches(runner: Runner) -> None:
    mark = f"3{uuid.uuid4().int % 10**8:08d}"
    sandbox = runner.start(
        f"trap '' TERM HUP INT; (setsid sleep {mark} &) ; (sleep {mark} & sleep {mark} &); echo up; sleep {mark}"
    )
    assert sandbox.output.readline() == b"up\n"
    assert until(lambda: len(processes_with(f"sleep {mark}")) >= 4)
    sandbox.kill()
    sandbox.kill()
    assert processes_with(mark) == []
    assert sandbox.output.read() == b""


@every_engine
def test_what_a_program_leaves_behind_ends_with_it(runner: Runner) -> None:
    mark = f"4{uuid.uuid4().int % 10**8:08d}"
    code, said = runner.run(f"(setsid sleep {mark} &); echo done; exit 4")
    assert (code, said) == (4, "done\n")
    assert processes_with(mark) == []


@every_engine
def test_terminating_lets_the_program_end_itself(runner: Runner) -> None:
    sandbox = runner.start("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05; done")
    assert sandbox.output.readline() == b"up\n"
    sandbox.terminate()
    assert sandbox.output.read() == b"bye\n"
    ended = sandbox.wait(10)
    assert ended is not None
    assert ended.exit_code == 9


STARTER = """
    import os, sys
    sys.path[:0] = {path!r}
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from sandbox_trials import ENGINES, Runner
    runner = Runner(ENGINES[{engine!r}](Path({scratch!r})), Path({root!r}))
    sandbox = runner.start("trap '' TERM HUP; (setsid sleep {mark} &) ; echo up; sleep {mark}", read_only=False)
    sys.stdout.write(sandbox.output.readline().decode())
    sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ENGINES)
def test_a_starter_killed_by_sigkill_takes_the_tree_and_its_files_with_it(name: str, scratch: Path, root: Path) -> None:
    mark = f"5{uuid.uuid4().int % 10**8:08d}"
    program = textwrap.dedent(STARTER).format(
        path=[str(REPOSITORY), str(REPOSITORY / "faas-supervisor")],
        tests=str(Path(__file__).parent),
        engine=name,
        scratch=str(scratch),
        root=str(root),
        mark=mark,
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        assert processes_with(f"sleep {mark}")
        os.kill(starter.pid, signal.SIGKILL)
    assert until(lambda: processes_with(mark) == [] and list((scratch / "layers").glob(f"*-{starter.pid}-*")) == [])
    if name == "podman":
        assert until(lambda: f"scar-local-{starter.pid}-" not in podman_names())


def podman_names() -> str:
    return subprocess.run(
        ["podman", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, check=True, text=True
    ).stdout


@every_engine
def test_nothing_is_left_on_disk_after_the_end(runner: Runner, scratch: Path) -> None:
    before = sorted(root_and_layers(scratch))
    read_only = runner.engine.name == "host"
    runner.run(
        "mkdir -m 0 /tmp/closed 2>/dev/null; echo x >/tmp/file", read_only=read_only, uid=0 if not read_only else 993
    )
    assert sorted(root_and_layers(scratch)) == before
    Path("/tmp/file").unlink(missing_ok=True)
    if Path("/tmp/closed").is_dir():
        Path("/tmp/closed").rmdir()


def root_and_layers(scratch: Path) -> list[str]:
    return [str(path) for folder in ("image", "layers") for path in (scratch / folder).rglob("*")]


@every_engine
def test_the_memory_bound_ends_the_program_and_says_so(runner: Runner) -> None:
    allocate = "python3 -c 'import time; held = bytearray(200 << 20); time.sleep(3)'"
    sandbox = runner.start(f"exec {allocate}", memory_mib=96)
    ended = sandbox.wait(20)
    assert ended is not None
    assert (ended.exit_code, ended.out_of_memory) == (137, True)


@every_engine
def test_processor_time_is_bounded_where_the_engine_says_so(runner: Runner) -> None:
    if "vCPU" not in runner.engine.isolation.processor:
        assert runner.engine.isolation.processor == "shared with this machine"
        return
    burn = "import time\nstart = time.perf_counter()\nwhile time.process_time() < 0.5: pass\nprint(time.perf_counter() - start)"
    code, output = runner.run(f'python3 -c "{burn}"', vcpus=0.25)
    assert code == 0
    assert float(output) > 1.0  # two seconds, less what a quarter of a second's quota lets through at the start


@every_engine
def test_files_in_tmp_are_disk_and_not_memory(runner: Runner) -> None:
    if runner.engine.name in {"podman", "docker"}:
        return  # their own control group counts them, and their note says so
    write = "python3 -c \"open('/tmp/large', 'wb').write(bytes(1 << 20) * 1); f = open('/tmp/large', 'ab'); "
    write += '[f.write(bytes(1 << 20)) for _ in range(150)]; import time; time.sleep(0.3)"; rm /tmp/large'
    sandbox = runner.start(write, memory_mib=96, tmp_mib=512)
    ended = sandbox.wait(20)
    assert ended is not None
    assert (ended.exit_code, ended.out_of_memory) == (0, False)
    assert sandbox.peak_memory_mib() < 96


@every_engine
def test_the_peak_counts_what_the_tree_held(runner: Runner) -> None:
    script = "python3 -c 'import time; held = bytearray(60 << 20); time.sleep(0.5)'; exit 0"
    sandbox = runner.start(script, memory_mib=400)
    assert sandbox.wait(20) is not None
    assert 60 <= sandbox.peak_memory_mib() <= 160


@every_engine
def test_the_environment_is_the_one_given_and_nothing_of_the_callers(runner: Runner) -> None:
    code, said = runner.run("env")
    names = {line.partition("=")[0] for line in said.splitlines()} - {"PWD", "OLDPWD", "_", "SHLVL"}
    engine_own = {"proot": {"PROOT_TMP_DIR"}, "podman": {"HOME", "HOSTNAME", "TERM", "container"}, "host": {"TMPDIR"}}
    assert code == 0
    assert names - engine_own.get(runner.engine.name, set()) == {"PATH", "LANG"}


@every_engine
def test_a_program_that_is_missing_ends_with_a_failure_and_a_word(runner: Runner) -> None:
    code, said = runner.run("", argv=("/no/such/program",))
    assert code in ({127} if runner.engine.name in {"namespaces", "host"} and "bwrap" not in said else {1, 127})
    assert "/no/such/program" in said


@every_engine
def test_many_sandboxes_run_at_once_from_many_threads(runner: Runner) -> None:
    started = [runner.start(f"sleep 0.2; exit {number}") for number in range(4)]
    codes = []
    for sandbox in started:
        ended = sandbox.wait(20)
        assert ended is not None
        codes.append(ended.exit_code)
    assert codes == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_what_it_keeps_apart(name: str, engines: Callable[[str], Engine]) -> None:
    isolation = engines(name).isolation
    assert "control group" in isolation.memory or "watched" in isolation.memory
    assert ("none" in isolation.files) == (name == "host")
    assert isolation.network in {"shared with this machine", "none"}
    if AS_ROOT and name == "root":
        assert "control group" in isolation.memory
