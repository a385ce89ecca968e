"""Podman and Docker: the engines of others, for their control groups or because the user named them.

Both keep a container outside the tree that asked for it, so the warden runs `rm --force` when that tree ends, for whatever reason.
Only a warden that is killed itself leaves one: containers are named after their starter, and `sweep` removes those of dead starters.
"""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from scar.errors import ScarError
from scar.local.sandbox import probing
from scar.local.sandbox.loopback import LoopbackNetwork
from scar.local.sandbox.networks import Networks
from scar.local.sandbox.restrictions import lambda_profile
from scar.local.sandbox.seats import seated
from scar.local.sandbox.spec import CONTAINER_CAPABILITIES, SHM_MIB, Isolation, Network, Place, SandboxSpec, Serve
from scar.local.sandbox.tree import Start, Tree, new_name, start_tree

_LABEL: Final = "scar-local"
_COMMAND_S: Final = 60.0
_PROCESSES_OF_USER: Final = 32_768  # counts all of that user's on the machine; --pids-limit bounds the container
_ISOLATION: Final = Isolation(
    files="only the image, what is bound and a private /tmp",
    processes="own process namespace",
    network="shared with this machine",
    memory="control group of the container engine",
    processor="as much as Lambda gives for the memory: one vCPU for 1769 MiB",
    note=(
        "a container outlives its keeper if that is killed as well, and the next start removes it; "
        "standard output and error are each in order, but not with each other; files in /tmp count as memory"
    ),
)


class Podman:
    """`podman run --rootfs`: the unpacked image itself, under an overlay of podman's own."""

    name = "podman"
    isolation = _ISOLATION
    program = "podman"
    # Its OOMKilled stays false with control groups of version 1; but nothing inside can send SIGKILL to the first process.
    tells_oom = False
    # A service of podman's, which a client speaks to, has the containers below itself.
    through_service: tuple[str, ...] | None = ("CONTAINER_HOST", "CONTAINER_CONNECTION")

    def __init__(self, scratch: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self._scratch = scratch
        self._environ = dict(os.environ if environ is None else environ)
        self._networks = Networks(scratch, self.start)
        self._swept = False

    def probe(self) -> str | None:
        if shutil.which(self.program, path=self._environ.get("PATH")) is None:
            return f"{self.program} is not on PATH"
        return probing.reason_against(self.start, self._scratch)

    def start(self, spec: SandboxSpec) -> Tree:
        if not self._swept:
            self.sweep()
            self._swept = True
        name, spec = new_name(), seated(spec)
        argv, extra = run_argv(
            self.program,
            spec,
            name,
            self._root(spec),
            self._environ,
            network=self._network(spec.place),
            profile=self._profile(spec),
        )
        start = Start(
            mode="bare",
            argv=argv,
            environment={**self._environ, **extra},
            working_directory="/",
            drop=False,
            limited=False,
            watch=False,
            outer=(self.program, "conmon", "runc", "crun", "fuse-overlayfs", "slirp4netns", "pasta"),
            elsewhere=self.through_service is None or any(name in self._environ for name in self.through_service),
            ask=(self.program, "kill", "--signal", "TERM", name),
            undo=((self.program, "rm", "--force", *self._now(), name),),
            killed_is_oom=not self.tells_oom and spec.memory_mib is not None,
            oom_question=(self.program, "inspect", "--format", "{{.State.OOMKilled}}", name),
        )
        return start_tree(spec, start, name=name)

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Serve) -> Network:
        if (
            os.geteuid() != 0
        ):  # rootless, podman is in a user namespace of its own, which may not enter another's network
            return LoopbackNetwork(self._scratch, hostnames, endpoint=endpoint)
        return self._networks.make(hostnames, user_namespace=False, endpoint=endpoint, serve=serve)

    def _network(self, place: Place | None) -> str:
        """What `--network` is told: this machine's, or the namespace behind a descriptor of this process."""
        for descriptor in self._networks.namespaces_at(place):
            return f"ns:/proc/{os.getpid()}/fd/{descriptor}"
        return "host"

    def sweep(self) -> tuple[str, ...]:
        """Remove containers whose starter is gone; their names."""
        listed = self._run("ps", "--all", "--filter", f"label={_LABEL}", "--format", "{{.Names}}").split()
        gone = tuple(
            name for name in listed if name.startswith("scar-local-") and not Path("/proc", name.split("-")[2]).exists()
        )
        if gone:
            self._run("rm", "--force", *self._now(), *gone)
        return gone

    def _profile(self, spec: SandboxSpec) -> Path | None:
        """The file that says which system calls are refused, or None for the engine's own."""
        if spec.restrictions == "none":
            return None
        content = lambda_profile(os.uname().machine).encode()
        path = self._scratch.resolve() / f"seccomp-{hashlib.sha256(content).hexdigest()[:16]}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            made.write_bytes(content)
            made.rename(path)
        return path

    def _root(self, spec: SandboxSpec) -> tuple[str, ...]:
        """`:O` keeps the mount points that podman makes, and a writable root's writes, out of the image's folder."""
        return ("--rootfs", f"{spec.rootfs.resolve()}:O")

    def _now(self) -> tuple[str, ...]:
        return ("--time", "0")

    def _run(self, *arguments: str, content: IO[bytes] | None = None) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments],
                stdin=content or subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_COMMAND_S,
                env=self._environ,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ScarError(f"{self.program} {arguments[0]} does not answer: {error}") from error
        if done.returncode != 0:
            raise ScarError(
                f"{self.program} {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()[-500:]}"
            )
        return done.stdout.decode(errors="replace")


class Docker(Podman):
    """`docker run` of an image imported once from the unpacked root: the daemon has no other way to a folder."""

    name = "docker"
    isolation = replace(
        _ISOLATION, note=f"{_ISOLATION.note}; a copy of each image stays in Docker as scar-local-rootfs"
    )
    program = "docker"
    tells_oom = True
    through_service = None

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Serve) -> Network:
        return LoopbackNetwork(self._scratch, hostnames, endpoint=endpoint)

    def _root(self, spec: SandboxSpec) -> tuple[str, ...]:
        image = image_name(spec.rootfs)
        try:
            self._run("image", "inspect", image)
        except ScarError:
            self._import(spec.rootfs, image)
        return (image,)

    def _now(self) -> tuple[str, ...]:
        return ()

    def _import(self, rootfs: Path, image: str) -> None:
        importing = subprocess.Popen(
            [self.program, "import", "-", image],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environ,
        )
        with importing:
            assert importing.stdin is not None
            assert importing.stderr is not None
            try:
                with tarfile.open(fileobj=importing.stdin, mode="w|") as archive:
                    archive.add(rootfs, arcname=".", filter=_owned_by_root)
                importing.stdin.close()
            except BrokenPipeError:
                pass  # what went wrong is on its standard error
            said = importing.stderr.read().decode(errors="replace").strip()
        if importing.returncode != 0:
            raise ScarError(f"docker import failed: {said[-500:]}")


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The unpacking user's files are root's inside, as in the image."""
    member.uid, member.gid, member.uname, member.gname = 0, 0, "root", "root"
    return member


def image_name(rootfs: Path) -> str:
    """A name for the image made of a root folder: another one once the folder was made anew."""
    status = rootfs.stat()
    identity = f"{rootfs.resolve()} {status.st_ino} {status.st_ctime_ns}"
    return f"scar-local-rootfs:{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def run_argv(
    program: str,
    spec: SandboxSpec,
    name: str,
    root: Iterable[str],
    environ: Mapping[str, str],
    *,
    network: str = "host",
    profile: Path | None = None,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line, and variables to add to the client's environment.

    Values travel in the environment, where other users cannot read them, except names that the client itself needs (PATH, HOME, …).
    """
    argv = [
        program,
        *(("--log-level", "error") if program == "podman" else ()),
        "run",
        "--name",
        name,
        "--label",
        f"{_LABEL}={os.getpid()}",
        "--network",
        network,
        "--log-driver",
        "none",
    ]
    argv += [] if spec.place is None else ["--hostname", spec.place.hostname]
    argv += ["--user", f"{spec.uid}:{spec.gid}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    if spec.capabilities:
        argv += [word for name in CONTAINER_CAPABILITIES for word in ("--cap-add", name)]
    argv += [] if profile is None else ["--security-opt", f"seccomp={profile}"]
    argv += ["--pids-limit", str(spec.max_processes), "--workdir", spec.working_directory]
    for limit, bound in (
        ("nofile", _at_most(resource.RLIMIT_NOFILE, spec.max_open_files)),
        ("nproc", _at_most(resource.RLIMIT_NPROC, _PROCESSES_OF_USER)),
        ("core", 0),
    ):
        argv += ["--ulimit", f"{limit}={bound}:{bound}"]
    if spec.memory_mib is not None:
        argv += ["--memory", f"{spec.memory_mib}m", "--memory-swap", f"{spec.memory_mib}m"]
    if spec.vcpus is not None:
        argv += ["--cpus", f"{spec.vcpus:.2f}"]
    if spec.read_only:
        tmp = f"/tmp:rw,exec,nosuid,nodev,size={spec.tmp_mib}m,mode=1777"  # noqa: S108  (the container's own)
        argv += ["--read-only", "--tmpfs"]
        # podman would copy the image's /tmp, and its mode, into it, and make more places writable
        argv += [f"{tmp},notmpcopyup", "--read-only-tmpfs=false"] if program == "podman" else [tmp]
    argv += ["--shm-size", f"{spec.shm_mib}m"] if spec.shm_mib != SHM_MIB else []
    for one in spec.tmpfs:
        argv += ["--tmpfs", f"{one.target}:rw,exec,nosuid,nodev,size={one.size_mib}m,mode=1777"]
    for bind in spec.binds:
        source = str(bind.source.resolve(strict=True))
        if "," in source or "," in bind.target:
            raise ScarError(f"{program} cannot bind {source}: its name has a comma")
        argv += ["--mount", f"type=bind,source={source},target={bind.target}" + (",readonly" if bind.read_only else "")]
    extra = {}
    for key, value in spec.environment.items():
        if key in environ:
            argv += ["--env", f"{key}={value}"]
        else:
            argv += ["--env", key]
            extra[key] = value
    return (*argv, *root, *spec.argv), extra


def _at_most(kind: int, wanted: int) -> int:
    """`wanted`, or this process's own hard limit where that is lower; told, because an engine's default may be above it."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
