"""What a sandboxed program sees and may do: SCENARIOS LO10, for the engines that build a wall."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from sandbox_trials import AS_ROOT, ORDINARY_UID, WALLS, Runner, python_for_everyone

from scar.errors import ScarError
from scar.local.sandbox import Bind
from scar.local.sandbox.namespaces import Namespaces

walls = pytest.mark.parametrize("runner", WALLS, indirect=True)
own = pytest.mark.parametrize(
    "runner", [name for name in WALLS if name in {"root", "root, watched", "user"}], indirect=True
)
REPOSITORY = Path(__file__).parents[3]


@walls
def test_the_program_is_the_user_asked_for_without_any_right(runner: Runner) -> None:
    _, said = runner.run(
        "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)|NoNewPrivs' /proc/self/status", uid=993, gid=990
    )
    lines = said.splitlines()
    assert lines[:2] == ["993", "990"]
    assert lines[2] in {"990", "990 65534"}
    assert {line.split()[1] for line in lines[3:]} == {"0" * 16, "1"}


@walls
def test_root_inside_has_no_rights_either_and_cannot_write_the_kernels_settings(runner: Runner) -> None:
    script = """
        grep -E 'CapEff|CapBnd' /proc/self/status
        for file in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sysrq-trigger; do
            (echo x >$file) 2>/dev/null && echo wrote $file
        done
        mount -t tmpfs none /data 2>/dev/null && echo mounted
        chroot / true 2>/dev/null && echo chrooted
        head -c 1 /dev/mem /dev/kmsg /proc/kcore 2>/dev/null | wc -c
    """
    _, said = runner.run(script, uid=0, gid=0, read_only=False)
    lines = said.split()
    assert lines[1:4:2] == ["0" * 16, "0" * 16]
    assert lines[4:] == ["0"]


@walls
def test_no_file_of_this_machine_is_seen_beyond_image_and_binds(runner: Runner, tmp_path: Path) -> None:
    """LO10"""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    _, said = runner.run(
        f"cat /etc/shadow /root/.bashrc {secret} /proc/1/root{secret} 2>/dev/null; ls /; cat /etc/motd", uid=0, gid=0
    )
    assert "secret" not in said
    assert "root:" not in said
    assert set(said.split()) <= {
        "bin",
        "data",
        "dev",
        "etc",
        "lib",
        "lib64",
        "proc",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "from",
        "the",
        "image",
    }


@walls
def test_no_process_of_this_machine_is_seen(runner: Runner) -> None:
    _, said = runner.run("ls /proc | grep -c '^[0-9]'; kill -9 -1; kill -0 1 2>/dev/null; echo alive")
    assert int(said.split()[0]) < 8


@walls
def test_a_read_only_root_can_be_written_in_tmp_alone(runner: Runner) -> None:
    script = (
        "for f in /x /etc/x /usr/x /data/x /dev/x /tmp/x /dev/shm/x; do (echo x >$f) 2>/dev/null && echo $f; done; true"
    )
    _, said = runner.run(script)
    assert set(said.split()) - {"/dev/shm/x", "/dev/x"} == {"/tmp/x"}


@walls
def test_tmp_is_private_open_to_all_and_no_larger_than_asked(runner: Runner) -> None:
    """LO8"""
    Path("/tmp").stat()
    _, first = runner.run(
        "stat -c %a /tmp; ls -A /tmp; echo mine >/tmp/left; head -c 20000000 /dev/zero >/tmp/big; stat -c %s /tmp/big",
        tmp_mib=8,
    )
    _, second = runner.run("ls -A /tmp")
    lines = first.splitlines()
    assert lines[0] == "1777"
    assert int(lines[-1]) <= 8 << 20
    assert second == ""


@walls
def test_a_writable_root_is_written_to_a_layer_that_is_thrown_away(runner: Runner, root: Path) -> None:
    code, said = runner.run(
        "echo new >/etc/motd && mkdir /made && rm /etc/unwanted; cat /etc/motd", read_only=False, uid=0, gid=0
    )
    assert (code, said) == (0, "new\n")
    assert (root / "etc/motd").read_text() == "from the image\n"
    assert not (root / "made").exists()
    assert (root / "etc/unwanted").exists()


def test_where_overlays_are_refused_a_copy_is_written_to(scratch: Path, root: Path) -> None:
    engine = Namespaces(scratch, overlay=False)
    code, said = Runner(engine, root).run(
        "echo new >/etc/motd; cat /etc/motd; ls -l /bin", read_only=False, uid=0, gid=0
    )
    assert code == 0
    assert said.startswith("new\n")
    assert "-> usr/bin" in said
    assert (root / "etc/motd").read_text() == "from the image\n"
    assert list((scratch / "layers").iterdir()) == []


def test_the_folder_of_a_starter_that_is_gone_is_swept(scratch: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as starter:
        pass
    left = scratch / "layers" / f"scar-local-{starter.pid}-ab"
    (left / "up/shut").mkdir(parents=True)
    (left / "up/shut").chmod(0)
    assert Namespaces(scratch).probe() is None
    assert not left.exists()


@walls
def test_binds_are_read_only_unless_asked_otherwise(runner: Runner, scratch: Path) -> None:
    shared = scratch / "shared"
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
    (shared / "in").write_text("in\n")
    (shared / "out").unlink(missing_ok=True)
    _, said = runner.run("cat /data/in; echo x >/data/out || echo refused", binds=(Bind(shared, "/data"),))
    assert "refused" in said
    runner.run("echo x >/data/out", binds=(Bind(shared, "/data", read_only=False),))
    assert (shared / "out").read_text() == "x\n"


@own
def test_a_bind_whose_place_the_image_lacks_gets_one_without_touching_the_image(
    runner: Runner, root: Path, scratch: Path
) -> None:
    code = scratch / "code"
    code.mkdir(exist_ok=True)
    (code / "main.py").write_text("print('hi')\n")
    _, said = runner.run(
        "cat /var/task/main.py /etc/deep/er/main.py; ls /etc; touch /var/x /etc/x /etc/deep/x",
        binds=(Bind(code, "/var/task"), Bind(code / "main.py", "/etc/deep/er/main.py")),
    )
    assert said.count("print('hi')") == 2
    assert "motd" in said
    assert said.count("Read-only file system") == 3
    assert not (root / "var").exists()
    assert not (root / "etc/deep").exists()


@own
def test_links_of_the_image_cannot_lead_a_mount_out_of_it(runner: Runner, scratch: Path, tmp_path: Path) -> None:
    hostile = scratch / "hostile"
    outside = scratch / "outside"
    if not hostile.exists():
        outside.mkdir()
        for name in ("proc", "dev", "usr"):
            (hostile / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (hostile / name).symlink_to(f"usr/{name}")
        (hostile / "tmp").symlink_to(outside)
        (hostile / "etc").symlink_to("../../../../etc")
        (hostile / "var").symlink_to(f"../../../../..{outside}")
    aside = Runner(runner.engine, hostile)
    with pytest.raises(ScarError):
        aside.start("true", binds=(Bind(tmp_path, "/var/task"),))
    assert list(outside.iterdir()) == []


@walls
def test_the_programs_of_this_machine_on_loopback_are_reached(runner: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answered = threading.Thread(target=lambda: server.accept()[0].sendall(b"reached\n"))
        answered.start()
        port = server.getsockname()[1]
        program = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 5).recv(99).decode())"
        _, said = runner.run(f'python3 -c "{program}"')
        answered.join(5)
    assert "reached" in said


@own
def test_what_a_sandbox_kills_is_only_itself(runner: Runner) -> None:
    code, said = runner.run("kill -TERM 0; echo still here")
    assert (code, said) == (143, "")
    code, _ = runner.run("kill -9 $$")
    assert code == 137


@own
def test_the_working_directory_is_entered_or_its_absence_told(runner: Runner) -> None:
    assert runner.run("pwd", working_directory="/usr/lib") == (0, "/usr/lib\n")
    with pytest.raises(ScarError, match="working directory /nowhere"):
        runner.start("pwd", working_directory="/nowhere")


@own
def test_open_files_and_core_dumps_are_limited_and_signals_and_descriptors_are_clean(runner: Runner) -> None:
    _, said = runner.run(
        "ulimit -n; ulimit -c; ls /proc/self/fd | wc -w; grep -E 'Sig(Blk|Ign)' /proc/self/status; umask",
        max_open_files=77,
    )
    assert said.split() == ["77", "0", "4", "SigBlk:", "0" * 16, "SigIgn:", "0" * 16, "0022"]


@own
def test_a_fork_bomb_stops_at_its_bound_and_is_killed_whole(runner: Runner) -> None:
    code, said = runner.run("for i in $(seq 60); do sleep 5 & done; sleep 1; echo all", max_processes=40)
    assert code != 0
    assert "all" not in said


def test_an_image_file_of_root_alone_is_unreadable_inside_as_it_is_in_lambda(scratch: Path, root: Path) -> None:
    """Only with a real root does the image have another owner than the program; an ordinary user owns all he unpacked."""
    if not AS_ROOT:
        return
    closed = root / "etc/closed"
    closed.write_text("closed\n")
    closed.chmod(0o600)
    try:
        code, said = Runner(Namespaces(scratch, variants=("root",)), root).run("cat /etc/closed")
    finally:
        closed.unlink()
    assert code != 0
    assert "Permission denied" in said


ORDINARY = """
    import sys
    sys.path[:0] = {path!r}
    from pathlib import Path
    from scar.local.sandbox import Bind, SandboxSpec, choose
    from scar.local.sandbox.namespaces import Namespaces
    folder = Path({folder!r})
    image = folder / "image"
    for name in ("proc", "dev", "tmp", "etc", "usr"):
        (image / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (image / name).symlink_to("usr/" + name)
    scratch = folder / "scratch"
    for engine in (choose(scratch=scratch).engine, Namespaces(scratch, variants=("bwrap",)), choose("proot", scratch=scratch).engine):
        for read_only in (True, False):
            script = "id -u; cat /etc/passwd 2>&1; touch /made 2>/dev/null && echo wrote; (setsid sleep 50 &); exit 3"
            spec = SandboxSpec(image, ("sh", "-c", script), dict(PATH="/usr/bin:/bin"), binds=(Bind(Path("/usr"), "/usr"),),
                read_only=read_only, memory_mib=100, max_processes=50)
            sandbox = engine.start(spec)
            said = sandbox.output.read().decode().split()
            print(engine.name, said[0], sandbox.wait(10).exit_code, "wrote" in said, "No such file" in " ".join(said))
            sandbox.output.close()
    bomb = SandboxSpec(image, ("sh", "-c", "for i in $(seq 60); do sleep 5 & done; sleep 1; echo all"), dict(PATH="/usr/bin:/bin"),
        binds=(Bind(Path("/usr"), "/usr"),), max_processes=40)
    sandbox = choose(scratch=scratch).engine.start(bomb)
    print("all" in sandbox.output.read().decode())
    sandbox.kill()
    sandbox.output.close()
"""


def test_an_ordinary_user_has_the_same_walls() -> None:
    """As root this runs the rungs that an ordinary user gets, as one; otherwise it is what the other tests did, once more."""
    with tempfile.TemporaryDirectory(prefix="scar-ordinary-") as folder:
        Path(folder).chmod(0o777)
        program = textwrap.dedent(ORDINARY).format(
            path=[str(REPOSITORY), str(REPOSITORY / "faas-supervisor")], folder=folder
        )
        user, groups = (ORDINARY_UID, []) if AS_ROOT else (None, None)
        done = subprocess.run(
            [python_for_everyone(), "-c", program],
            user=user,
            group=user,
            extra_groups=groups,
            capture_output=True,
            check=False,
            cwd="/",
        )
        assert done.stderr.decode() == ""
        wall, open_root = "namespaces 993 3 {} True", "proot 993 3 {} True"
        expected = [wall.format(False), wall.format(True)] * 2 + [open_root.format(True)] * 2 + ["False"]
        assert done.stdout.decode().splitlines() == expected
        assert list(Path(folder, "scratch/layers").iterdir()) == []
