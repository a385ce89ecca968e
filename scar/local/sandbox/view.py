"""What pid 1 of a sandbox sees: the image, what is bound, and the few file systems that every program expects."""

# pathlib, signal, json and typing stay out of the warden's modules: together they would double the time that a start takes.

from __future__ import annotations

import os

from scar.local.sandbox.kernel import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    SetUpError,
    checked,
    libc,
    mount,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scar.local.sandbox.kernel import Request


SYSFS_FLAGS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
HIDDEN_OF_SYSFS = ("/sys/firmware", "/sys/devices/virtual/powercap")  # as Docker hides them (moby, oci/defaults.go)


def system_folder(layer: str) -> str:
    """Where a layer has the sysfs that was mounted for it from outside."""
    return f"{layer}/sys"


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
    parent = real
    steps: list[str] = []
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
        targets = [target for _, target, _ in request["binds"]] + [target for target, _ in request["tmpfs"]]
        wanted = {"proc", "dev", "tmp", *(target.strip("/").split("/")[0] for target in targets)}
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
    bound = {target for _, target, _ in sources}
    for path in {"/etc/resolv.conf", "/etc/hosts"} - bound:
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


def fill_dev(devices: list[tuple[int, str]], shm_mib: int | None) -> None:
    mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for descriptor, target in devices:
        make_mount_point(target, folder=False)
        bind_descriptor(descriptor, target, read_only=False)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    os.mkdir("/dev/mqueue")
    if shm_mib is None:
        os.symlink("/tmp", "/dev/shm")
    else:
        os.mkdir("/dev/shm")
        mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={shm_mib}m")
    remount_read_only("/dev")


def show_sysfs(given: int | None, mirrored: set[str]) -> None:
    """What container engines show of the machine's devices; MPIs look there for networks and processors. `given`, or one of our own."""
    real = ensure_mount_point("/sys", folder=True, mirrored=mirrored)
    if given is not None:
        bind_descriptor(given, real, read_only=True)
        os.close(given)
    else:
        try:
            mount("sysfs", real, "sysfs", SYSFS_FLAGS)
        except SetUpError:  # the network is not ours: see `nsinit.mount_sysfs`
            return
    for path in HIDDEN_OF_SYSFS:
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", SYSFS_FLAGS, "size=0")


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
    layer = request["layer"]
    system = os.open(system_folder(layer), os.O_PATH) if layer and os.path.isdir(system_folder(layer)) else None
    mount_root(request)
    os.chdir(request["rootfs"])
    checked(libc.syscall(pivot_root, b".", b"."), "pivot_root")
    os.chdir("/")
    mirrored: set[str] = set()
    for name in ("/proc", "/dev", *(("/tmp",) if request["read_only"] else ())):
        ensure_mount_point(name, folder=True, mirrored=mirrored)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    fill_dev(devices, request["shm_mib"])
    if layer:
        show_sysfs(system, mirrored)
    if request["read_only"]:
        mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={request['tmp_mib']}m")
    for target, size_mib in request["tmpfs"]:
        real = ensure_mount_point(target, folder=True, mirrored=mirrored)
        mount("tmpfs", real, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={size_mib}m")
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
