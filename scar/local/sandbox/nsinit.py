"""The program that stands between the starter and a sandboxed tree: it makes the tree, watches it and takes it away.

Run by `tree.py` with no site and no environment, never imported by the rest of SCAR. Three processes:

    starter ──stdin──► warden (`main`) ──clone──► init (pid 1 inside, namespaces only) ──fork──► the program

Standard input carries the request and then stays open: its end means that the starter is gone or wants the tree gone. So no
parent-death signal of the starter is needed (it fires when a *thread* ends), and any thread may start a sandbox. The warden stays
outside the namespaces: only there can it see the whole tree, kill it, remove its control groups and its files, and say how it ended.

The request is marshalled, not JSON: both ends are the same interpreter, and `json` alone would be a third of the warden's start.
"""

# pathlib, signal, json and typing stay out of the warden's modules: together they would double the time that a start takes.

from __future__ import annotations

import ctypes
import marshal
import os
import time

from scar.local.sandbox.kernel import (
    CLONE_AND_PIVOT_ROOT,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_REC,
    MS_SLAVE,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    SIGCHLD,
    SIGKILL,
    SetUpError,
    checked,
    libc,
    mount,
    prctl,
    signal_descriptor,
    unblock_signals,
)
from scar.local.sandbox.rights import drop_privileges, execute, install_filter, replace_program, set_limits
from scar.local.sandbox.view import SYSFS_FLAGS, make_view, system_folder
from scar.local.sandbox.watch import LINGER_S, Memory, Tracer, attend, end_descendants, reap, send, write_text

UNDO_LINGER_S = 3.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from scar.local.sandbox.kernel import Request


def remove_tree(path: str) -> None:
    """Remove a folder and all in it, whatever its modes say; what is gone already is fine."""
    try:
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        return


def remove_loaders(tracer: int) -> None:
    """PRoot puts its loader into /tmp, whatever it is told, and leaves it there when it is killed."""
    for name in os.listdir("/tmp"):
        if name.startswith(f"prooted-{tracer}-"):
            try:
                os.unlink(f"/tmp/{name}")
            except OSError:  # another user's, of a process that had the same number once
                continue


def make_layer(request: Request) -> None:
    layer = request["layer"]
    if layer is None:
        return
    os.mkdir(layer, 0o711)
    for name, mode in (("up", 0o755), ("work", 0o755), ("tmp", 0o1777)):
        os.mkdir(f"{layer}/{name}")
        os.chmod(f"{layer}/{name}", mode)
        if request["mode"] == "bare" and request["switch_user"]:
            os.chown(f"{layer}/{name}", request["uid"], request["gid"])
    if request["copied"]:
        import shutil  # only this slow fallback pays for it

        shutil.copytree(request["rootfs"], f"{layer}/up", symlinks=True, dirs_exist_ok=True)


def enter_network(request: Request) -> None:
    """Go where the tree is to be: what is cloned from here has that network, and nobody in it a right over it."""
    for descriptor in request["network"]:
        checked(libc.setns(descriptor, 0), "enter the network's namespace")
        os.close(descriptor)
    if request["network"]:  # another user namespace makes a process's files in /proc root's, and those of its children
        prctl(PR_SET_DUMPABLE, 1)


def mount_sysfs(request: Request) -> None:
    """sysfs shows the network of whoever mounts it, and only who has rights over that network may: not the tree, where users are mapped.

    Where the machine's own is partly hidden, as in a container, the kernel refuses: then there is none.
    """
    if not (request["network"] and request["user_namespace"] and request["layer"]):
        return
    folder = system_folder(request["layer"])
    checked(libc.unshare(CLONE_NEWNS), "a view of its own for the warden")
    mount(None, "/", None, MS_REC | MS_SLAVE)
    os.mkdir(folder)
    try:
        mount("sysfs", folder, "sysfs", SYSFS_FLAGS)
    except SetUpError:
        os.rmdir(folder)


def clone_init(request: Request, clone: int) -> int:
    flags = (
        CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (CLONE_NEWUSER if request["user_namespace"] else 0)
    )
    empty = ctypes.c_ulong(0)
    return checked(
        libc.syscall(ctypes.c_long(clone), ctypes.c_ulong(flags | SIGCHLD), empty, empty, empty, empty),
        "clone namespaces",
    )


def map_user(pid: int, request: Request) -> None:
    if not request["user_namespace"]:
        return
    try:
        write_text(f"/proc/{pid}/setgroups", "deny")
        write_text(f"/proc/{pid}/uid_map", f"{request['uid']} {os.geteuid()} 1")
        write_text(f"/proc/{pid}/gid_map", f"{request['gid']} {os.getegid()} 1")
    except OSError as error:
        raise SetUpError(f"map the user into its namespace: {error.strerror}") from error


def run_init(request: Request, pivot_root: int, go: int, set_up: int) -> NoReturn:
    """Pid 1 inside: make the view, give up every right, start the program, reap; its end is the end of all in the namespace."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.read(go, 1) != b"g":
        os._exit(125)
    os.close(go)
    make_view(request, pivot_root)
    name = request["hostname"].encode()
    checked(libc.sethostname(name, len(name)), "set the host name")
    set_limits(request)
    drop_privileges(request)
    prctl(PR_SET_PDEATHSIG, SIGKILL)  # again: a change of identity clears it
    if request["seccomp"]:  # on pid 1 too: a program of the same user could write into its memory
        install_filter(request["seccomp"])
    signals = signal_descriptor()
    program = os.fork()
    if program == 0:
        guarded(set_up, lambda: execute(request, set_up))
    release_output()
    os.close(set_up)
    code = attend(program, signals, lifeline=None, tick=lambda: True, interval_ms=None)
    os._exit(125 if code is None else code)


def run_bare(request: Request, go: int, set_up: int) -> NoReturn:
    """The program without namespaces of ours; the engine's own program (or nothing) makes its view."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.read(go, 1) != b"g":
        os._exit(125)
    os.close(go)
    if request["limited"]:
        set_limits(request)
    if request["drop"]:
        drop_privileges(request)
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if request["seccomp"]:
        install_filter(request["seccomp"])
    execute(request, set_up)


def guarded(set_up: int, action: Callable[[], NoReturn]) -> NoReturn:
    """The door of a child: whatever goes wrong before the program runs reaches the starter as text."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001  (a child that returned from here would run the warden's code a second time)
        text = str(error) if isinstance(error, SetUpError) else f"{type(error).__name__}: {error}"
        os.write(set_up, text.encode(errors="surrogateescape"))
        os._exit(125)


def release_output() -> None:
    """Let go of the output pipe, so that it ends with the tree and not with its keeper."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def start_tree(request: Request, memory: Memory, set_up: int) -> int:
    clone, pivot_root = CLONE_AND_PIVOT_ROOT.get(os.uname().machine, (0, 0))
    go_read, go_write = os.pipe()
    lifeline = os.dup(0)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.set_inheritable(0, True)
    request["lifeline"] = lifeline
    if request["mode"] == "namespaces":
        if not clone:
            raise SetUpError(f"namespaces are not supported on {os.uname().machine}")
        enter_network(request)
        mount_sysfs(request)
        main = clone_init(request, clone)
    else:
        checked(prctl(PR_SET_CHILD_SUBREAPER, 1), "become the reaper of orphans")
        main = os.fork()
    if main == 0:
        os.close(lifeline)
        os.close(go_write)
        if request["mode"] == "namespaces":
            guarded(set_up, lambda: run_init(request, pivot_root, go_read, set_up))
        guarded(set_up, lambda: run_bare(request, go_read, set_up))
    os.close(go_read)
    release_output()
    try:
        map_user(main, request)
        memory.enter(main)
        os.write(go_write, b"g")
    finally:
        os.close(go_write)
    return main


def begin_command(command: list[str], environment: dict[str, str], output: int | None = None) -> int:
    """Start an engine's own command; its process."""
    pid = os.fork()
    if pid == 0:
        if output is not None:
            os.dup2(output, 1)
        unblock_signals()
        replace_program(command, environment)
        os._exit(127)
    return pid


def run_command(command: list[str], environment: dict[str, str]) -> bytes:
    """Run an engine's own command to its end, within bounds, and answer what it said; its failure is an empty answer."""
    reading, writing = os.pipe()
    pid = begin_command(command, environment, writing)
    os.close(writing)
    deadline = time.monotonic() + LINGER_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            send(pid, SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.005)
    os.set_blocking(reading, False)
    try:
        return os.read(reading, 4096)
    except BlockingIOError:
        return b""
    finally:
        os.close(reading)


def killed_by_engine(request: Request) -> bool:
    """Whether an engine that bounds memory itself killed the tree."""
    if request["killed_is_oom"]:
        return True
    question = request["oom_question"]
    return bool(question) and run_command(question, request["environment"]).strip() == b"true"


def wait_for_children(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        reap(0)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        time.sleep(0.005)


def finish(request: Request, main: int, *, ended: bool) -> None:
    """Nothing of the tree is left when this returns."""
    if request["mode"] == "namespaces":
        if not ended:
            send(main, SIGKILL)
            os.waitpid(main, 0)  # a pid 1 is gone only after everything in its namespace
        return
    for command in request["undo"]:
        run_command(command, request["environment"])
        wait_for_children(UNDO_LINGER_S)  # an engine's own keepers write down that they are done
    end_descendants()


def read_request() -> Request:
    header = os.read(0, 4)
    length, text = int.from_bytes(header, "little"), b""
    while len(text) < length:
        chunk = os.read(0, length - len(text))
        if not chunk:
            break
        text += chunk
    if not header or len(text) < length:
        os._exit(125)
    request: Request = marshal.loads(text)  # noqa: S302  (written by our own parent, the same interpreter)
    return request


def main(set_up: int, result: int, shown: int) -> NoReturn:
    """The warden's life: read the request, make the tree, watch it, take it away, say how it ended."""
    for descriptor in (set_up, result, shown):
        os.set_inheritable(descriptor, False)
    os.setsid()
    request = read_request()
    for descriptor in request["held"]:
        os.set_inheritable(descriptor, False)
    memory, code, tree = Memory(request, shown), None, 0
    try:
        signals = signal_descriptor()
        make_layer(request)
        memory.make_groups()
        tree = start_tree(request, memory, set_up)
    except (SetUpError, OSError) as error:
        os.write(set_up, str(error).encode(errors="surrogateescape"))
    os.close(set_up)
    try:
        if tree:
            tick = Tracer(tree, memory.look).look if request["tracer"] else memory.look
            lifeline, depth = request["lifeline"], request["depth"]
            command, environment = request["ask"], request["environment"]
            ask = (lambda: begin_command(command, environment)) if command else None
            code = attend(tree, signals, lifeline=lifeline, tick=tick, interval_ms=memory.pause, depth=depth, ask=ask)
            memory.look()
            if code == 128 + SIGKILL:
                memory.exceeded = memory.exceeded or killed_by_engine(request)
    finally:
        if tree:
            finish(request, tree, ended=code is not None)
        memory.remove_groups()
        if request["layer"] is not None:
            libc.umount2(os.fsencode(system_folder(request["layer"])), MNT_DETACH)  # if it is one
            remove_tree(request["layer"])
        if request["tracer"]:
            remove_loaders(tree)
    os.write(result, marshal.dumps({"code": code, "out_of_memory": memory.exceeded, "peak": memory.peak}))
    os._exit(0)
