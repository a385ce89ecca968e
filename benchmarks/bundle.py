"""The agent's bundle: how large, how fast to its first line and to a ready S3 client, how much memory; against PyInstaller.

    python benchmarks/bundle.py [--quick]        results go to benchmarks/results/bundle.{json,md}

All start the same probe in place of the agent's own first module: it tells the time of its first line, then makes the S3 client
as the agent does, and tells the time again. The peer is PyInstaller's one-file program of the same modules, as its own hooks
make it, and one with the same service models as ours. Both come from PyPI into an environment of this run.
"""

from __future__ import annotations

import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import run
from figures import MIB, ROOT, Result
from surroundings import Size

RUNS = 11

PROBE = """\
import time
main_s = time.monotonic()  # one clock for all processes
import sys
def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
main_mib = resident_mib()
if len(sys.argv) > 1:
    from faassupervisor.aws import Aws
    from faassupervisor.storage.s3 import S3
    S3.of(Aws({"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}))
client_s = time.monotonic()
sys.stdout.write(f"{main_s} {client_s} {main_mib} {resident_mib()} {getattr(sys, '_MEIPASS', '')}\\n")
if hasattr(sys, "_MEIPASS") and len(sys.argv) > 2:
    import os
    sys.stdout.write(str(sum(os.path.getsize(os.path.join(f, n)) for f, _, ns in os.walk(sys._MEIPASS) for n in ns)))
"""


@dataclass(frozen=True)
class Bundle:
    """One way to pack the agent; `words` start it."""

    name: str
    words: tuple[str, ...]
    raw_mib: float
    compressed_mib: float


@dataclass(frozen=True)
class Figures:
    """Times from before the process is made: the fastest of RUNS, because whatever else the machine does only adds. Memory: medians."""

    name: str
    raw_mib: float
    compressed_mib: float
    main_s: float
    client_s: float
    main_mib: float
    client_mib: float


def ours(folder: Path, name: str, origin: str) -> Bundle:
    """An agent layer, unpacked as a container engine would, with the probe in place of the agent's first module."""
    from scar.package.agent import Origin, built_layer, host_architecture

    layer = built_layer(host_architecture(), Origin(origin), cache=folder / "cache")
    root = folder / origin
    with tarfile.open(fileobj=io.BytesIO(b"".join(layer.layer.blob.open()))) as tar:
        tar.extractall(root, filter="fully_trusted")
    app = root / "opt/scar/app"
    (app / "__main__.pyc").unlink()
    (app / "__main__.py").write_text(PROBE)
    words = tuple(word.replace("/opt/scar", f"{root}/opt/scar") for word in layer.entrypoint)
    return Bundle(name, words, size_mib(root), layer.layer.blob.descriptor.size / MIB)


def pyinstaller(folder: Path, name: str, python: Path, *, same_models: Path | None) -> Bundle:
    """A one-file program. `same_models`: where to find the service models that our own bundle holds, instead of all."""
    work = folder / name.replace(" ", "-").replace(",", "")
    work.mkdir()
    (work / "probe.py").write_text(PROBE)
    options = [
        "--onefile",
        "--distpath",
        "dist",
        "--paths",
        str(ROOT / "faas-supervisor"),
        "--collect-submodules",
        "faassupervisor",
    ]
    options += ["--hidden-import", "boto3"]  # ours has it, for users' scripts
    if same_models is not None:
        # A spec file of its own: what PyInstaller's hook collected of botocore's models is replaced by ours.
        (work / "probe.spec").write_text(_SPEC.format(source=str(ROOT / "faas-supervisor"), models=str(same_models)))
        options = ["--distpath", "dist"]
    entry = "probe.spec" if same_models is not None else "probe.py"
    ran(python, "-m", "PyInstaller", "--log-level", "ERROR", *options, entry, cwd=work)
    program = work / "dist/probe"
    unpacked = subprocess.run([program, "client", "size"], capture_output=True, text=True, check=True).stdout
    return Bundle(name, (str(program),), int(unpacked.splitlines()[1]) / MIB, program.stat().st_size / MIB)


_SPEC = """\
from PyInstaller.utils.hooks import collect_submodules
a = Analysis(["probe.py"], pathex=[{source!r}], hiddenimports=["boto3", *collect_submodules("faassupervisor")])
a.datas = [d for d in a.datas if not d[0].startswith(("botocore/data/", "boto3/data/", "boto3/examples/"))]
a.datas += Tree({models!r} + "/botocore/data", prefix="botocore/data") + Tree({models!r} + "/boto3/data", prefix="boto3/data")
exe = EXE(PYZ(a.pure), a.scripts, a.binaries, a.datas, name="probe", console=True)
"""


def environment_with_pyinstaller(folder: Path) -> Path:
    from importlib.metadata import version

    ran(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv/bin/python"
    pinned = [f"{name}=={version(name)}" for name in ("boto3", "botocore", "s3transfer", "urllib3")]
    ran(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pyinstaller", *pinned)
    return python


def ran(*words: object, cwd: Path | None = None) -> None:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def size_mib(root: Path) -> float:
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) / MIB


@contextmanager
def go_first() -> Iterator[None]:
    """As root: run with all children before whatever else the machine does, so that it does not count."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError:
        sys.stderr.write("not as root: what else runs on this machine is measured too\n")
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def timed(bundles: Sequence[Bundle], rounds: int) -> list[Figures]:
    """All in turn, over and over, so that what else the machine does meets all alike."""
    main: dict[str, list[list[float]]] = {bundle.name: [] for bundle in bundles}
    client: dict[str, list[list[float]]] = {bundle.name: [] for bundle in bundles}
    for round_ in range(rounds + 1):
        for bundle in bundles:
            for told, words in ((main, ()), (client, ("client",))):
                started = time.monotonic()
                answer = subprocess.run(
                    [*bundle.words, *words], capture_output=True, text=True, check=True, env={}
                ).stdout
                first, ready, small, large = map(float, answer.split()[:4])
                if round_:  # the first brings the files into memory
                    told[bundle.name].append([first - started, ready - started, small, large])

    def median(table: dict[str, list[list[float]]], name: str, column: int) -> float:
        return statistics.median(row[column] for row in table[name])

    def fastest(table: dict[str, list[list[float]]], name: str, column: int) -> float:
        return min(row[column] for row in table[name])

    return [
        Figures(
            bundle.name,
            bundle.raw_mib,
            bundle.compressed_mib,
            main_s=fastest(main, bundle.name, 0),
            client_s=fastest(client, bundle.name, 1),
            main_mib=median(main, bundle.name, 2),
            client_mib=median(client, bundle.name, 3),
        )
        for bundle in bundles
    ]


def table(figures: Sequence[Figures]) -> str:
    from tabulate import tabulate

    first = figures[0]

    def ms(seconds: float, of_first: float) -> str:
        return f"{seconds * 1000:.1f} ({seconds / of_first:.1f} x)"

    rows = [
        (
            f.name,
            f"{f.raw_mib:.1f}",
            f"{f.compressed_mib:.1f}",
            ms(f.main_s, first.main_s),
            ms(f.client_s, first.client_s),
            f"{f.main_mib:.0f}",
            f"{f.client_mib:.0f}",
        )
        for f in figures
    ]
    headers = (
        "bundle",
        "raw MiB",
        "compressed MiB",
        "first line ms",
        "S3 client ms",
        "RSS at first line MiB",
        "RSS with client MiB",
    )
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def measure(size: Size) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="scar-bench-bundle-"))
    try:
        bundles = [ours(folder, "the running Python (what a checkout makes)", "running")]
        if not size.quick:  # the others take what is not on every machine, and minutes
            bundles.insert(0, ours(folder, "Debian's Python (what a release ships)", "debian"))
            python = environment_with_pyinstaller(folder)
            models = folder / "debian/opt/scar/app"
            bundles.append(pyinstaller(folder, "PyInstaller one-file", python, same_models=None))
            bundles.append(pyinstaller(folder, "PyInstaller one-file, our models", python, same_models=models))
        with go_first():
            figures = timed(bundles, size.of(RUNS, 1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result((), text=table(figures), document={"runs": RUNS, "bundles": [asdict(f) for f in figures]})


if __name__ == "__main__":
    run.alone("bundle")
