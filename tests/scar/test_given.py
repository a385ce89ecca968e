"""Flags define functions, or change what a file says of them: each reaches its key, under the rules of its key, and wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scar.arguments import build
from scar.arguments.defining import FLAGS, typed
from scar.commands.given import defined
from scar.errors import FdlError, UsageError
from scar.fdl.load import Definition
from scar.fdl.model import Function

ROLE = "arn:aws:iam::123456789012:role/mine"
LAYER = "arn:aws:lambda:eu-west-1:123456789012:layer:mine:1"
ZIP = ("-rt", "python3.13")
# Flag → what is typed beside it, what it says, where it is found, and what is there
REACHES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, Any]] = {
    "--image": ((), ("ubuntu:24.04",), "lambda_.container.image", "ubuntu:24.04"),
    "--image-file": ((), ("image.tar",), "lambda_.container.image_file", "image.tar"),
    "--init-script": ((), ("cow.sh",), "lambda_.init_script", "cow.sh"),
    "--environment": ((), ("A=b=c",), "lambda_.container.environment", {"A": "b=c"}),
    "--lambda-environment": ((), ("Aa=1",), "lambda_.environment", {"Aa": "1"}),
    "--memory": ((), ("1024",), "lambda_.memory", 1024),
    "--timeout": ((), ("60",), "lambda_.timeout", 60),
    "--timeout-threshold": ((), ("20",), "lambda_.container.timeout_threshold", 20),
    "--execution-mode": ((), ("lambda-batch",), "lambda_.execution_mode", "lambda-batch"),
    "--input-bucket": ((), ("bucket/in",), "lambda_.input", ["bucket/in"]),
    "--output-bucket": ((), ("bucket/out",), "lambda_.output", ["bucket/out"]),
    "--description": ((), ("a cow",), "lambda_.description", "a cow"),
    "--iam-role": ((), (ROLE,), "iam.role", ROLE),
    "--log-level": ((), ("debug",), "lambda_.log_level", "DEBUG"),
    "--runtime": ((), ("python3.13",), "lambda_.runtime", "python3.13"),
    "--layers": (ZIP, (LAYER,), "lambda_.layers", (LAYER,)),
    "--extra-payload": (ZIP, ("folder",), "lambda_.extra_payload", "folder"),
    "--deployment-bucket": (ZIP, ("my-bucket",), "lambda_.deployment.bucket", "my-bucket"),
    "--preheat": ((), (), "lambda_.preheat", True),
    "--api-gateway-name": ((), ("api",), "api_gateway.name", "api"),
    "--api-auth": (("-api", "api"), ("none",), "api_gateway.auth", "none"),
    "--function-url": ((), ("none",), "function_url.auth", "none"),
    "--batch-memory": (("-em", "batch"), ("4096",), "batch.memory", 4096),
    "--batch-vcpus": (("-em", "batch"), ("2",), "batch.vcpus", "2"),
    "--enable-gpu": (("-em", "batch"), (), "batch.enable_gpu", True),
    "--supervisor-version": ((), ("1.5.0",), "lambda_.supervisor.version", "1.5.0"),
}
PARSER = build()
FILE = """\
functions:
  aws:
    - lambda:
        name: first
        memory: 256
        layers: []
        container: {image_file: image.tar, environment: {Variables: {KEPT: '1', SAID: file}}}
        input: [{path: bucket/a}, {path: bucket/b}]
    - lambda:
        name: second
        memory: 256
        container: {image: scratch}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files to name; no configuration but what a test writes."""
    for name in ("image.tar", "cow.sh"):
        (tmp_path / name).write_text("content")
    (tmp_path / "folder").mkdir()
    (tmp_path / "f.yaml").write_text(FILE)
    (tmp_path / "config.yaml").write_text("batch: {compute_resources: {max_v_cpus: 8, instance_types: [g4dn]}}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCAR_CONFIG_FOLDER", str(tmp_path))
    return tmp_path


def given(*words: str, **environ: str) -> Definition:
    args = PARSER.parse_args(["init", *words])
    return defined(args.conf_file, args, environ)


def one(*words: str, **environ: str) -> Function:
    (fn,) = given("-n", "cow", *words, **environ).functions
    return fn


def problems(*words: str) -> list[str]:
    with pytest.raises(FdlError) as refused:
        given(*words)
    return [str(problem) for problem in refused.value.problems]


def plain(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return str(value.relative_to(folder))
    if isinstance(value, tuple) and value and hasattr(value[0], "path"):
        return [item.path for item in value]
    return value


def test_every_flag_is_tried() -> None:
    assert set(REACHES) == {flag.name for flag in FLAGS}


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_a_flag_reaches_its_key_by_its_short_and_its_long_name(flag: Any, folder: Path) -> None:
    besides, said, path, expected = REACHES[flag.name]
    image = () if flag.name.startswith("--image") else ("-i", "scratch")
    for name in flag.names:
        value: Any = one(*image, *besides, name, *said)
        for step in path.split("."):
            value = getattr(value, step)
        assert plain(value, folder) == expected


def test_a_variable_may_take_its_value_from_outside(folder: Path) -> None:
    assert one("-i", "scratch", "-e", "A", "-e", "B=", A="x=y").lambda_.container.environment == {"A": "x=y", "B": ""}
    with pytest.raises(UsageError, match="'A' is not set") as refused:
        one("-i", "scratch", "-e", "A")
    assert refused.value.where == "flag -e/--environment"


def test_what_is_wrong_with_a_flag_names_the_flag_and_is_told_all_at_once(folder: Path) -> None:
    told = "\n".join(problems("-n", "no name", "-i", "Debian", "-m", "99999", "-t", "long", "-s", "no.sh", "-e", "=x"))
    for start in (
        "flag -n/--name: 'no name' cannot be used",
        "flag -i/--image: 'Debian' has capital letters",
        "flag -m/--memory: 99999 MiB is above Lambda's 10240 MiB",
        "flag -t/--timeout: a whole number was expected",
        "flag -s/--init-script: there is no file 'no.sh'",
        "flag -e/--environment: '' cannot be used as a name",
    ):
        assert start in told


def test_without_a_file_the_flags_name_function_and_image(folder: Path) -> None:
    for words, what in (((), "nothing says"), (("-i", "scratch"), "no name"), (("-n", "cow"), "nothing says what")):
        with pytest.raises(UsageError, match=what):
            given(*words)


def test_a_flag_wins_over_the_file_and_the_file_over_the_configuration(folder: Path) -> None:
    """Lists and images are replaced as a whole, variables one by one."""
    (folder / "config.yaml").write_text("lambda: {memory: 512, timeout: 60}")
    first, second = given("-f", "f.yaml", "-ob", "other/c", "-i", "alpine", "-e", "SAID=flag").functions
    assert [fn.lambda_.memory for fn in (first, second)] == [256, 256]
    assert [fn.lambda_.timeout for fn in (first, second)] == [60, 60]
    assert [item.path for item in first.lambda_.output] == ["other/c"] == [item.path for item in second.lambda_.output]
    replaced = given("-f", "f.yaml", "-n", "first", "-ib", "other/c").functions[0]
    assert [item.path for item in replaced.lambda_.input] == ["other/c"]
    assert (first.lambda_.container.image, first.lambda_.container.image_file) == ("alpine", None)
    assert first.lambda_.container.environment == {"KEPT": "1", "SAID": "flag"}


def test_with_a_name_the_flags_are_for_that_function_only(folder: Path) -> None:
    first, second = given("-f", "f.yaml", "-n", "second", "-m", "1024").functions
    assert (first.lambda_.memory, second.lambda_.memory) == (256, 1024)


def test_a_name_is_given_to_the_one_function_that_has_none(folder: Path) -> None:
    """SCAR 4 let a file leave the name to `-n`."""
    (folder / "g.yaml").write_text(FILE.replace("        name: second\n", ""))
    assert [fn.name for fn in given("-f", "g.yaml", "-n", "third").functions] == ["first", "third"]
    assert "`name` is missing" in problems("-f", "g.yaml", "-n", "first")[0]


def test_a_path_starts_in_the_current_folder_and_else_beside_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder / "folder"
    monkeypatch.chdir(here)

    def script() -> Path:
        found = given("-f", "../f.yaml", "-s", "cow.sh").functions[0].lambda_.init_script
        assert found is not None
        return found.resolve()

    assert script() == folder / "cow.sh"
    (here / "cow.sh").write_text("another")
    assert script() == here / "cow.sh"
    (here / "layout").mkdir()
    assert (
        given("-f", "../f.yaml", "-i", "oci:layout:tag").functions[0].lambda_.container.image
        == f"oci:{here}/layout:tag"
    )


def test_flags_for_services_of_a_cluster_are_refused(folder: Path) -> None:
    (folder / "s.yaml").write_text(
        "functions: {oscar: [{c: {name: s, image: scratch, endpoint: 'https://oscar.example'}}]}"
    )
    assert [service.name for service in given("-f", "s.yaml").services] == ["s"]
    with pytest.raises(UsageError, match="no function in AWS"):
        given("-f", "s.yaml", "-m", "1024")


def test_the_command_that_goes_on_repeats_the_flags(folder: Path) -> None:
    words = ["-i", "scratch", "-e", "A=b c", "-e", "B=1", "-ph", "-m", "256"]
    args = build().parse_args(["init", "-n", "cow", *words])
    assert sorted(typed(args)) == sorted(words)


def test_bytes_that_are_no_text_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8") as refused:
        one("-i", "scratch", "-d", "caf\udce9")
    assert refused.value.where == "flag -d/--description"
    with pytest.raises(UsageError, match="not UTF-8"):
        one("-i", "scratch", "-e", "A", A="\udcff")
