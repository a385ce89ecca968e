"""The house's rules that a reader would otherwise have to take on trust, held by the syntax tree."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCAR = ROOT / "scar"
AGENT = ROOT / "faas-supervisor" / "faassupervisor"

# A room and what it may import of `scar`; "" is the package itself. Longest prefix decides.
LEAVES = {"scar.errors", "scar.limits", "scar.secret", "scar.text", "scar.__version__"}
# Runs inside the function's image as /opt/scar/app/__main__.py; it lies in scar.package because that builds the layer.
STARTS_THE_AGENT = {"scar.package.agent.agent_main"}
# What the agent and scar have in common.
SHARED = {"faassupervisor.contract", "faassupervisor.hops", "faassupervisor.layers"}
MAY_IMPORT = {
    "scar.errors": set[str](),
    "scar.limits": set[str](),
    "scar.secret": set[str](),
    "scar.settings": set[str](),
    "scar.text": set[str](),
    "scar.progress": set[str](),
    "scar.report": {"scar.progress"},
    "scar.cli": {"scar.arguments", "scar.commands", "scar.report", "scar.aws.errors"},
    "scar.arguments": {"scar.cli", "scar.commands"},
    "scar.session": {"scar.settings", "scar.aws.clients", "scar.aws.calls", "scar.report", "scar.local.lifecycle"},
    "scar.commands": {
        "scar.cli", "scar.arguments", "scar.commands", "scar.settings", "scar.session", "scar.report", "scar.fdl", "scar.design", "scar.plan",
        "scar.aws", "scar.package", "scar.local.lifecycle", "scar.text", "scar.workflow", "scar.oscar",
    },
    "scar.fdl": {"scar.fdl", "scar.workflow"},
    "scar.workflow": set[str](),
    "scar.oscar": {"scar.oscar", "scar.fdl"},
    "scar.design": {"scar.design", "scar.fdl.model", "scar.fdl.nodes", "scar.aws.resources", "scar.aws.names", "scar.aws.tags", "scar.aws.clients", "scar.aws.network", "scar.plan.resource", "scar.workflow"},
    "scar.plan": {"scar.plan", "scar.aws", "scar.workflow"},
    "scar.aws.resources": {"scar.aws", "scar.plan.resource"},
    "scar.aws": {"scar.aws"},
    "scar.package.agent": {"scar.package.oci", "scar.package.layer", "scar.package.cache", "scar.package.progress"},
    "scar.package.registry": {"scar.package.oci", "scar.package.layer", "scar.package.unpacked", "scar.package.progress"},
    "scar.package": {"scar.package", "scar.fdl.model", "scar.aws.clients", "scar.aws.names"},
    "scar.local": {"scar.local", "scar.package.oci"},
    "scar.local.registry_upstream": {"scar.local", "scar.package.oci", "scar.package.registry"},  # the pull-through cache is a client
    "scar.local.batch.upstream": {"scar.local", "scar.package.oci", "scar.package.registry", "scar.package.source"},  # jobs run images of any registry
}  # fmt: skip


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))


def module(path: Path) -> str:
    root = ROOT if path.is_relative_to(SCAR) else ROOT / "faas-supervisor"
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("path", [*files(SCAR)], ids=module)
def test_a_room_imports_only_what_the_architecture_allows(path: Path) -> None:
    name = module(path)
    room = max((room for room in MAY_IMPORT if within(name, {room})), key=len, default=None)
    if room is None:
        assert name in {"scar", "scar.__main__"}, f"{name} belongs to no room"
        return
    allowed = MAY_IMPORT[room] | LEAVES | {room}
    ours = {other for other in imports(path) if within(other, {"scar"})}
    assert {other for other in ours if not within(other, allowed)} == set()


@pytest.mark.parametrize("path", [*files(SCAR)], ids=module)
def test_scar_imports_of_the_agent_only_the_contract_and_the_unpacking_of_layers(path: Path) -> None:
    if module(path) in STARTS_THE_AGENT:
        return
    agent = {other for other in imports(path) if within(other, {"faassupervisor"})}
    assert not [other for other in agent if not within(other, SHARED)]


@pytest.mark.parametrize("path", [*files(AGENT)], ids=module)
def test_the_agent_never_imports_scar(path: Path) -> None:
    assert not [other for other in imports(path) if within(other, {"scar"})]


@pytest.mark.parametrize("path", [AGENT / "contract.py", AGENT / "hops.py", *files(AGENT / "layers")], ids=module)
def test_what_both_sides_share_needs_the_standard_library_only(path: Path) -> None:
    others = {name for name in imports(path) if not within(name, SHARED)}
    tried = {
        "__future__",
        "zstandard",
    }  # zstd is asked for when a layer needs it, and refused in clear words where it is missing
    assert {name.partition(".")[0] for name in others} - tried <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", [*files(SCAR, AGENT)], ids=module)
def test_clients_are_created_at_the_few_agreed_places(path: Path) -> None:
    makers = {"client", "create_client", "resource", "Session"}
    agreed = {"scar.aws.clients", "scar.session", "faassupervisor.aws"}
    calls = [
        node.func
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in makers
    ]
    botoish = [
        call for call in calls if any(word in ast.unparse(call.value) for word in ("boto", "session", "Session"))
    ]
    assert not botoish or module(path) in agreed


@pytest.mark.parametrize("path", [*files(SCAR, AGENT)], ids=module)
def test_only_the_report_prints_and_only_doors_exit(path: Path) -> None:
    doors = {
        "scar.__main__",
        "scar.local.daemon",
        "scar.package.agent.bundle",
        "scar.package.agent.debian_pins",
        "scar.local.sandbox.nsinit",
        "faassupervisor.__main__",
        "faassupervisor.nodes.rsh",
        *STARTS_THE_AGENT,
    }
    for node in nodes(path):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call != "print" or module(path) == "scar.report", f"print at line {node.lineno}"
            assert call != "sys.exit" or module(path) in doors, f"sys.exit at line {node.lineno}"


@pytest.mark.parametrize("path", [*files(SCAR, AGENT)], ids=module)
def test_nobody_writes_to_the_process_environment(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            targets = node.targets if not isinstance(node, ast.AugAssign) else [node.target]
            assert not any(ast.unparse(target).startswith("os.environ") for target in targets)
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {
                "os.putenv",
                "os.unsetenv",
                "os.environ.update",
                "os.environ.setdefault",
                "os.environ.pop",
            }


@pytest.mark.parametrize("path", [*files(SCAR, AGENT)], ids=module)
def test_no_shell_gets_between_us_and_a_program(path: Path) -> None:
    """SE11."""
    for node in nodes(path):
        if isinstance(node, ast.Call):
            assert not any(word.arg == "shell" for word in node.keywords)
            assert ast.unparse(node.func) not in {"os.system", "os.popen"}


def test_only_the_session_and_the_flag_know_of_a_local_mode() -> None:
    knowing = {
        module(path)
        for path in files(SCAR)
        if any(within(name, {"scar.local"}) for name in imports(path)) and not within(module(path), {"scar.local"})
    }
    assert knowing <= {"scar.session", "scar.commands.local", "scar.commands.demo"}


def test_help_imports_neither_boto_nor_yaml() -> None:
    code = "import sys; from scar.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    loaded = set(ast.literal_eval(shown.splitlines()[-1]))
    assert not loaded & {"boto3", "botocore", "yaml", "moto", "requests", "tabulate", "urllib3", "s3transfer"}
