"""The program that stands between the starter and a sandboxed tree: it makes the tree, watches it and takes it away.

Run as `python -I -S -c 'import nsinit; nsinit.main(...)'` by `tree.py`, never imported by the rest of SCAR. Three processes:

    starter ──stdin──► warden (`main`) ──clone──► init (pid 1 inside, namespaces only) ──fork──► the program

Standard input carries the request and then stays open: its end means that the starter is gone or wants the tree gone, so no
parent-death signal (which fires when a *thread* ends) is needed and any thread may start a sandbox. The warden stays outside the
namespaces: only it can see the whole tree, kill it, remove its cgroups and its files. It leaves nothing behind, and then says how it ended.

The request is marshalled, and `signal` and `json` are not imported: both ends are the same interpreter, and it is 8 of 20 ms.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

SIGKILL, SIGPIPE, SIGTERM, SIGCHLD, SIGSTOP = 9, 13, 15, 17, 19
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 36, 38
SECCOMP_MODE_FILTER = 2
SIGNALFD_SIGINFO_BYTES = 128
SYSCALLS: Final = {  # clone, pivot_root
    "x86_64": (56, 155),
    "aarch64": (220, 41),
    "riscv64": (220, 41),
    "ppc64le": (120, 203),
}
STOP_ROUNDS = 50
LINGER_S = 20.0

# PyDLL keeps the interpreter lock through the call, which a raw clone needs: the child must find it held by itself.
libc = ctypes.PyDLL(None, use_errno=True)

Request = dict[str, Any]


class SetUpError(Exception):
    """The tree could not be made; the text goes to the starter."""


def checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise SetUpError(f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return int(libc.prctl(option, *padded))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    result = libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    checked(result, f"mount {kind or source} on {target}")


# --- pid 1 inside: the view of the file system -------------------------------------------------------------------------------


def remount_read_only(target: str) -> None:
    """Flags that were there before must be repeated: in a user namespace they are locked."""
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def bind_descriptor(descriptor: int, target: str, *, read_only: bool) -> None:
    mount(f"/proc/self/fd/{descriptor}", target, None, MS_BIND | MS_REC)
    if read_only:
        remount_read_only(target)


def resolve(path: str) -> str:
    """`path` without symbolic links; runs after pivot_root, so it cannot lead outside. A missing tail is kept as it is."""
    done = ""
    left = [part for part in path.split("/") if part not in {"", "."}]
    for _ in range(256):
        if not left:
            return done or "/"
        part = left.pop(0)
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        try:
            link = os.readlink(f"{done}/{part}")
        except OSError:
            done = f"{done}/{part}"
            continue
        if link.startswith("/"):
            done = ""
        left = [step for step in link.split("/") if step not in {"", "."}] + left
    raise SetUpError(f"{path}: too many symbolic links")


def mirror(folder: str) -> None:
    """Make a folder of a read-only root one that entries can be added to: a small tmpfs with every entry bound into it."""
    original = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    mode = os.fstat(original).st_mode & 0o7777
    entries = os.listdir(f"/proc/self/fd/{original}")
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode:o},size=1m")
    for name in entries:
        source, target = f"/proc/self/fd/{original}/{name}", f"{folder}/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
            continue
        entry = os.open(source, os.O_PATH)
        make_mount_point(target, folder=os.path.isdir(source))
        bind_descriptor(entry, target, read_only=True)
        os.close(entry)
    os.close(original)


def make_mount_point(target: str, *, folder: bool) -> None:
    if folder:
        os.mkdir(target, 0o755)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def ensure_mount_point(target: str, *, folder: bool, mirrored: set[str]) -> str:
    """The real path of `target`, made when it is missing: on a read-only root by mirroring the first folder that lacks an entry."""
    real = resolve(target)
    if os.path.isdir(real) if folder else os.path.exists(real) and not os.path.isdir(real):
        return real
    if os.path.exists(real):
        raise SetUpError(f"{target} is in the image, but is not a {'folder' if folder else 'file'}")
    parent, steps = real, []
    while not os.path.exists(parent):
        parent, _, name = parent.rpartition("/")
        parent = parent or "/"
        steps.insert(0, name)
    if parent == "/" and os.statvfs("/").f_flag & MS_RDONLY:
        raise SetUpError(f"the image has no /{steps[0]}, and it cannot be added to a read-only root")
    if os.statvfs(parent).f_flag & MS_RDONLY:
        mirror(parent)
        mirrored.add(parent)
    for index, name in enumerate(steps):
        parent = f"{parent.rstrip('/')}/{name}"
        make_mount_point(parent, folder=folder or index < len(steps) - 1)
    return real


def mount_root(request: Request) -> None:
    """Put the root's new mount over its own folder: read-only, or an overlay whose upper folder is thrown away later."""
    rootfs = request["rootfs"]
    layer = request["layer"]
    if request["read_only"]:
        mount(rootfs, rootfs, None, MS_BIND | MS_REC)
        wanted = {"proc", "dev", "tmp", *(target.strip("/").split("/")[0] for _, target, _ in request["binds"])}
        missing = [name for name in wanted if not os.path.lexists(f"{rootfs}/{name}")]
        if missing:
            mirror(rootfs)
            for name in missing:
                os.mkdir(f"{rootfs}/{name}", 0o755)
        remount_read_only(rootfs)
    elif request["copied"]:
        mount(f"{layer}/up", rootfs, None, MS_BIND | MS_REC)
    else:
        # Named by descriptor: a path could hold the commas and colons that separate overlay's options.
        folders = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (rootfs, f"{layer}/up", f"{layer}/work")]
        lower, upper, work = (f"/proc/self/fd/{descriptor}" for descriptor in folders)
        extra = ",userxattr" if request["user_namespace"] else ""
        mount("overlay", rootfs, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}{extra}")
        for descriptor in folders:
            os.close(descriptor)


def open_sources(request: Request) -> list[tuple[int, str, bool]]:
    """Everything of the host that will be seen inside, opened before the host goes out of sight."""
    sources = [(os.open(source, os.O_PATH), target, read_only) for source, target, read_only in request["binds"]]
    for path in ("/etc/resolv.conf", "/etc/hosts"):
        inside = f"{request['rootfs']}{path}"
        absent = not os.path.lexists(inside) or (not os.path.islink(inside) and os.path.getsize(inside) == 0)
        if absent and os.path.exists(path) and os.path.isdir(f"{request['rootfs']}/etc"):
            sources.append((os.open(path, os.O_PATH), path, True))
    return sources


def mount_devices() -> list[tuple[int, str]]:
    return [
        (os.open(f"/dev/{name}", os.O_PATH), f"/dev/{name}")
        for name in ("null", "zero", "full", "random", "urandom", "tty")
        if os.path.exists(f"/dev/{name}")
    ]


def fill_dev(devices: list[tuple[int, str]]) -> None:
    mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for descriptor, target in devices:
        make_mount_point(target, folder=False)
        bind_descriptor(descriptor, target, read_only=False)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    for name in ("shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m")
    remount_read_only("/dev")


def mask_proc(null: int) -> None:
    """The kernel's own settings stay out of reach: a real root without capabilities could still write /proc/sys."""
    for name in ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "driver", "mtrr"):
        target = f"/proc/{name}"
        if os.path.exists(target):
            mount(target, target, None, MS_BIND | MS_REC)
            remount_read_only(target)
    for name in ("kcore", "kmsg", "keys", "key-users", "timer_list", "latency_stats", "sched_debug"):
        target = f"/proc/{name}"
        if os.path.exists(target):
            bind_descriptor(null, target, read_only=True)


def make_view(request: Request, pivot_root: int) -> None:
    """From the host's mounts to the sandbox's: after `pivot_root` every absolute path, link or not, is one of the image's."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    sources, devices = open_sources(request), mount_devices()
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    mount_root(request)
    os.chdir(request["rootfs"])
    checked(libc.syscall(pivot_root, b".", b"."), "pivot_root")
    os.chdir("/")
    mirrored: set[str] = set()
    for name in ("/proc", "/dev", *(("/tmp",) if request["read_only"] else ())):
        ensure_mount_point(name, folder=True, mirrored=mirrored)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    fill_dev(devices)
    if request["read_only"]:
        mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={request['tmp_mib']}m")
    for descriptor, target, read_only in sources:
        folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        real = ensure_mount_point(target, folder=folder, mirrored=mirrored)
        bind_descriptor(descriptor, real, read_only=read_only)
        os.close(descriptor)
    for folder_path in mirrored:
        remount_read_only(folder_path)
    mask_proc(devices[0][0])
    for descriptor, _ in devices:
        os.close(descriptor)
    os.fchdir(host)
    checked(libc.umount2(b".", MNT_DETACH), "detach the host's root")
    os.chdir("/")
    os.close(host)


# --- privileges, limits, exec -------------------------------------------------------------------------------------------------


def set_limits(request: Request) -> None:
    limits = [(resource.RLIMIT_NOFILE, request["max_open_files"]), (resource.RLIMIT_CORE, 0)]
    # Counted per user of the machine before Linux 5.14, and always without a namespace of its own: then a cgroup has to do it.
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if request["user_namespace"] and release >= (5, 14):
        limits.append((resource.RLIMIT_NPROC, request["max_processes"]))
    for kind, wanted in limits:
        hard = resource.getrlimit(kind)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (bound, bound))


def drop_privileges(request: Request) -> None:
    """No way back to any right of root's: bounding set, identities, capabilities, and nothing regained by exec."""
    capability = 0
    while prctl(PR_CAPBSET_DROP, capability) == 0:
        capability += 1
    if request["switch_user"]:
        os.setgroups([])
        os.setresgid(request["gid"], request["gid"], request["gid"])
        os.setresuid(request["uid"], request["uid"], request["uid"])
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    empty = (ctypes.c_uint32 * 6)()
    checked(libc.capset(header, empty), "drop capabilities")
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")


def install_filter(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = ctypes.create_string_buffer(program, len(program))
    described = Program(len(program) // 8, ctypes.addressof(code))
    checked(
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0), "install the system call filter"
    )


def execute(request: Request, set_up: int) -> NoReturn:
    """Become the program. What its shell would say of a program that is missing (127) or cannot be run (126) goes to its output."""
    os.setsid()  # a `kill 0` inside must not reach the warden
    if request["seccomp"]:
        install_filter(request["seccomp"])
    try:
        os.chdir(request["working_directory"])
    except OSError as error:
        raise SetUpError(f"the working directory {request['working_directory']}: {error.strerror}") from error
    unblock_signals()
    for number in range(1, 32):  # an ignored signal would stay ignored; Python itself ignores SIGPIPE
        libc.signal(number, 0)
    os.umask(0o022)
    os.write(set_up, b"ok")
    try:
        os.execvpe(request["argv"][0], request["argv"], request["environment"])
    except OSError as error:
        os.write(2, f"{request['argv'][0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        os._exit(127 if error.errno in {errno.ENOENT, errno.ENOTDIR} else 126)


# --- waiting ------------------------------------------------------------------------------------------------------------------


def signal_set(*numbers: int) -> ctypes.Array[ctypes.c_char]:
    signals = ctypes.create_string_buffer(128)
    libc.sigemptyset(signals)
    for number in numbers:
        libc.sigaddset(signals, number)
    return signals


def unblock_signals() -> None:
    libc.sigprocmask(2, signal_set(), None)


def signal_descriptor() -> int:
    """SIGCHLD and SIGTERM as something to read. Blocked signals reach even pid 1, which ignores those it has no handler for."""
    signals = signal_set(SIGCHLD, SIGTERM)
    libc.sigprocmask(0, signals, None)
    return checked(libc.signalfd(-1, signals, os.O_CLOEXEC | os.O_NONBLOCK), "signalfd")


def reap(main: int) -> int | None:
    """Take in every child that ended; the exit code of `main` when it is among them, 128 + signal as the shell has it."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == main:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended


def attend(
    main: int, signals: int, *, lifeline: int | None, tick: Callable[[], bool], interval_ms: int | None
) -> int | None:
    """Forward SIGTERM and reap until `main` ends (its exit code), the lifeline closes, or `tick` says to stop (None)."""
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    if lifeline is not None:
        poll.register(lifeline, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll(interval_ms):
            if descriptor == lifeline and not os.read(lifeline, 4096):
                return None
            if descriptor == signals and wants_termination(signals):
                os.kill(main, SIGTERM)
        code = reap(main)
        if code is not None:
            return code
        if not tick():
            return None


def wants_termination(signals: int) -> bool:
    found = False
    while True:
        try:
            records = os.read(signals, SIGNALFD_SIGINFO_BYTES * 16)
        except BlockingIOError:
            return found
        for start in range(0, len(records), SIGNALFD_SIGINFO_BYTES):
            found = found or int.from_bytes(records[start : start + 4], sys.byteorder) == SIGTERM


# --- the tree as seen from outside --------------------------------------------------------------------------------------------


def children(pid: int) -> Iterator[int]:
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                yield from map(int, file.read().split())
    except OSError:
        return


def scan_children() -> dict[int, list[int]]:
    """Every process by its parent, for kernels that do not list children."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(name))
    return found


def descendants(root: int) -> list[int]:
    table = None if lists_children() else scan_children()
    found, left = [], [root]
    while left:
        pid = left.pop()
        fresh = list(children(pid)) if table is None else table.get(pid, [])
        found += fresh
        left += fresh
    return found


def lists_children() -> bool:
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def end_descendants() -> None:
    """Kill what is left below this process. Orphans come back to it (subreaper), so an empty list of children means all are gone."""
    deadline = time.monotonic() + LINGER_S
    while time.monotonic() < deadline:
        stopped: set[int] = set()
        for _ in range(STOP_ROUNDS):  # stopped first, so that nothing forks away from under the kill
            fresh = set(descendants(os.getpid())) - stopped
            if not fresh:
                break
            for pid in fresh:
                send(pid, SIGSTOP)
            stopped |= fresh
        for pid in stopped:
            send(pid, SIGKILL)
        reap(0)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def number_in(path: str, key: bytes = b"") -> int:
    """The first number of a cgroup or proc file, or that of the line starting with `key`; 0 when there is none."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(key):
                    return int(line[len(key) :].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return 0


class Memory:
    """Bound and peak of a tree: kept by the kernel's cgroup where there is one, else by looking at it now and then."""

    def __init__(self, request: Request, shown: int) -> None:
        self.groups: list[tuple[str, list[tuple[str, str]]]] = request["cgroups"]
        self.peak_file: str = request["peak_file"]
        self.kill_file, self.kill_key = request["oom_file"], request["oom_key"].encode()
        self.bound_bytes: int | None = None if self.groups else request["memory_bytes"]
        self.shown, self.peak, self.exceeded = shown, 0, False
        self.root = 0

    def enter(self, pid: int) -> None:
        self.root = pid
        for folder, _ in self.groups:
            try:
                write_text(f"{folder}/cgroup.procs", str(pid))
            except OSError as error:
                raise SetUpError(f"cgroup: {folder}: {error.strerror}") from error

    def make_groups(self) -> None:
        for folder, settings in self.groups:
            try:
                os.mkdir(folder)
                for name, value in settings:
                    if os.path.exists(f"{folder}/{name}") or not name.endswith((".swap.max", "memsw.limit_in_bytes")):
                        write_text(f"{folder}/{name}", value)
            except OSError as error:
                raise SetUpError(f"cgroup: {folder}: {error.strerror}") from error

    def remove_groups(self) -> None:
        for folder, _ in self.groups:
            for _ in range(100):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.005)
                    continue
                break

    def look(self) -> bool:
        """Note the peak; False once the bound was passed."""
        if self.groups:
            self.exceeded = self.exceeded or number_in(self.kill_file, self.kill_key) > 0
            kept = number_in(self.peak_file)
            if kept:
                self.note(kept)
                return not self.exceeded
        tree = [self.root, *descendants(self.root)]
        page = resource.getpagesize()
        resident = sum(resident_pages(pid) for pid in tree) * page
        if resident > self.peak:  # shared pages are counted once only when it matters: that is slower to find out
            resident = sum(proportional_bytes(pid, page) for pid in tree)
            self.note(resident)
        self.exceeded = self.exceeded or (self.bound_bytes is not None and resident > self.bound_bytes)
        return not self.exceeded

    def note(self, value: int) -> None:
        if value > self.peak:
            self.peak = value
            os.pwrite(self.shown, value.to_bytes(8, sys.byteorder), 0)


def resident_pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int, page: int) -> int:
    kibibytes = number_in(f"/proc/{pid}/smaps_rollup", b"Pss:")
    return kibibytes * 1024 or resident_pages(pid) * page


def write_text(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# --- what is thrown away ------------------------------------------------------------------------------------------------------


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


def make_layer(request: Request) -> None:
    layer = request["layer"]
    if layer is None:
        return
    os.mkdir(layer, 0o711)
    for name, mode in (("up", 0o755), ("work", 0o755), ("tmp", 0o1777)):
        os.mkdir(f"{layer}/{name}")
        os.chmod(f"{layer}/{name}", mode)
    if request["copied"]:
        import shutil  # noqa: PLC0415  (7 ms that only this slow fallback pays)

        shutil.copytree(request["rootfs"], f"{layer}/up", symlinks=True, dirs_exist_ok=True)


# --- the three processes ------------------------------------------------------------------------------------------------------


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
    set_limits(request)
    if request["drop"]:
        drop_privileges(request)
    prctl(PR_SET_PDEATHSIG, SIGKILL)
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
    clone, pivot_root = SYSCALLS.get(os.uname().machine, (0, 0))
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


def run_undo(commands: list[list[str]], environment: dict[str, str]) -> None:
    """Commands of an engine that keeps trees of its own (a daemon's containers): run to their end, within bounds."""
    for command in commands:
        pid = os.fork()
        if pid == 0:
            unblock_signals()
            try:
                os.execvpe(command[0], command, environment)
            except OSError:
                os._exit(127)
        deadline = time.monotonic() + LINGER_S
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                send(pid, SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.005)


def finish(request: Request, main: int, *, ended: bool) -> None:
    """Nothing of the tree is left when this returns."""
    if request["mode"] == "namespaces":
        if not ended:
            send(main, SIGKILL)
            os.waitpid(main, 0)  # a pid 1 is gone only after everything in its namespace
        return
    run_undo(request["undo"], request["environment"])
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
            code = attend(
                tree, signals, lifeline=request["lifeline"], tick=memory.look, interval_ms=request["interval_ms"]
            )
            memory.look()
    finally:
        if tree:
            finish(request, tree, ended=code is not None)
        memory.remove_groups()
        if request["layer"] is not None:
            remove_tree(request["layer"])
    os.write(result, marshal.dumps({"code": code, "out_of_memory": memory.exceeded, "peak": memory.peak}))
    os._exit(0)
