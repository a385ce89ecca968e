"""Choosing an engine: really tried, in order, with reasons; and what is built for engines that are not here."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from sandbox_trials import AS_ROOT

from scar.errors import ScarError, UsageError
from scar.local.sandbox import ENGINES, SandboxSpec, choose
from scar.local.sandbox.bounds import Groups, _own_groups
from scar.local.sandbox.bubblewrap import bubblewrap_argv
from scar.local.sandbox.containers import Docker, Podman, image_name, run_argv
from scar.local.sandbox.namespaces import Namespaces
from scar.local.sandbox.probing import tiny_program
from scar.local.sandbox.proot import PRoot, proot_version, refuse_new_calls
from scar.local.sandbox.spec import Bind


def test_auto_takes_namespaces_here_and_passes_nothing_over(scratch: Path) -> None:
    choice = choose(scratch=scratch)
    assert (choice.engine.name, dict(choice.passed_over)) == ("namespaces", {})


def test_the_order_is_best_first_and_the_bare_host_last() -> None:
    assert list(ENGINES) == ["namespaces", "proot", "podman", "docker", "host"]


def test_an_unknown_engine_is_a_usage_error_that_names_the_known(scratch: Path) -> None:
    with pytest.raises(UsageError, match="proot, podman"):
        choose("lxc", scratch=scratch)


def test_a_named_engine_that_does_not_work_says_why_and_what_to_install(scratch: Path) -> None:
    with pytest.raises(ScarError, match="podman is not on PATH") as raised:
        choose("podman", scratch=scratch, environ={"PATH": "/nowhere"})
    assert "apt install podman" in str(raised.value)
    with pytest.raises(ScarError, match="does not run"):
        choose("proot", scratch=scratch, environ={"SCAR_PROOT": "/no/proot"})


def test_the_host_is_chosen_by_name_or_permission_only(scratch: Path) -> None:
    assert choose("host", scratch=scratch).engine.name == "host"
    assert choose(scratch=scratch, allow_host=True).engine.name == "namespaces"


def test_a_rung_that_fails_tells_every_way_it_tried(scratch: Path) -> None:
    nothing = Namespaces(scratch, variants=())
    assert nothing.probe() == ""
    if AS_ROOT:
        assert "ordinary users" in (Namespaces(scratch, variants=("bwrap",)).probe() or "")


def test_a_program_that_lies_about_running_is_not_believed(scratch: Path) -> None:
    reason = PRoot(scratch, program="/bin/true").probe()
    assert reason is not None
    assert "ended with 0 instead of 7" in reason


def test_the_tiny_program_runs_bare_and_exists_for_both_architectures(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(tiny_program(os.uname().machine))
    program.chmod(0o755)
    done = subprocess.run([str(program)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"a sandbox of SCAR\n")
    assert struct.unpack_from("<H", tiny_program("aarch64"), 18) == (183,)
    with pytest.raises(ScarError, match="riscv64"):
        tiny_program("riscv64")


def test_old_proots_are_told_from_new_and_get_the_filter() -> None:
    version = proot_version("proot")
    assert version > (0, 0)
    program = refuse_new_calls("x86_64")
    assert len(program) == 8 * (3 + 4 + 2)
    assert struct.unpack("HBBI", program[-8:]) == (0x06, 0, 0, 0x00050000 | 38)


SPEC = SandboxSpec(
    rootfs=Path("/srv/image"),
    argv=("run", "--it"),
    environment={"PATH": "/bin", "SECRET": "s"},
    working_directory="/work",
    memory_mib=128,
    binds=(Bind(Path("/usr"), "/var/task"), Bind(Path("/usr"), "/out", read_only=False)),
)


def test_a_containers_command_line_bounds_everything_and_keeps_values_out_of_ps() -> None:
    argv, extra = run_argv("docker", SPEC, "scar-local-1-ab", ("image:tag",), {"PATH": "/usr/bin"})
    line = " ".join(argv)
    for part in (
        "docker run --name scar-local-1-ab",
        "--label scar-local=",
        "--network host",
        "--user 993:990",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--memory 128m --memory-swap 128m",
        "--pids-limit 1024",
        "--read-only --tmpfs /tmp:",
        "--workdir /work",
        "type=bind,source=/usr,target=/var/task,readonly",
        "type=bind,source=/usr,target=/out",
        "--env PATH=/bin",
        "--env SECRET",
    ):
        assert part in line
    assert "SECRET=s" not in line
    assert extra == {"SECRET": "s"}
    assert argv[-3:] == ("image:tag", "run", "--it")


def test_a_root_folder_made_anew_is_another_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    first = image_name(root)
    assert first == image_name(root)
    root.rename(tmp_path / "aside")
    root.mkdir()
    assert image_name(root) != first
    assert Docker(tmp_path).name == "docker"


def test_bubblewraps_command_line_gives_the_same_view() -> None:
    line = " ".join(bubblewrap_argv("bwrap", SPEC, None))
    assert "--ro-bind /srv/image / --proc /proc --dev /dev --perms 1777 --size 536870912 --tmpfs /tmp" in line
    assert "--cap-drop ALL" in line
    assert line.endswith("--ro-bind /usr /var/task --bind /usr /out --chdir /work -- run --it")


def test_control_groups_are_found_in_both_versions() -> None:
    membership = "4:memory:/a/b\n8:pids:/\n0::/u/s\n"
    mounts = (
        "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "31 25 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
        "32 25 0:28 /u /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    found = _own_groups(membership, mounts)
    assert found["memory"] == Path("/sys/fs/cgroup/memory/a/b")
    assert found["pids"] == Path("/sys/fs/cgroup/pids")
    assert found[""] == Path("/sys/fs/cgroup/unified/s")


def test_a_version_2_group_bounds_memory_without_swap_and_kills_the_tree_whole() -> None:
    limits = Groups(2, Path("/cg"), Path("/cg")).for_tree("scar-local-1-ab", SPEC)
    ((folder, settings),) = limits.folders
    assert folder == "/cg/scar-local-1-ab"
    assert dict(settings) == {
        "memory.max": str((128 + SPEC.tmp_mib) << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "1025",
    }
    assert (limits.usage_file, limits.usage_key) == ("/cg/scar-local-1-ab/memory.stat", "anon ")
    assert (limits.oom_file, limits.oom_key) == ("/cg/scar-local-1-ab/memory.events", "oom_kill ")


def test_containers_of_dead_starters_are_swept_and_those_of_living_are_not(scratch: Path, root: Path) -> None:
    if not AS_ROOT:
        return
    podman = Podman(scratch)
    assert podman.probe() is None
    with subprocess.Popen(["/bin/true"]) as starter:
        pass
    names = [f"scar-local-{starter.pid}-dead", f"scar-local-{os.getpid()}-living"]
    for name in names:
        argv, _ = run_argv("podman", SandboxSpec(root, ("/bin/true",), {}), name, ("--rootfs", f"{root}:O"), os.environ)
        subprocess.run([part if part != "run" else "create" for part in argv], check=True, capture_output=True)
    try:
        assert podman.sweep() == (names[0],)
    finally:
        subprocess.run(["podman", "rm", "--force", "--ignore", *names], capture_output=True, check=False)
