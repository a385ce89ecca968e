"""A zip function's run: the image's own programs on the image's own files, in a sandbox like Lambda's, as in the image runtime."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from faassupervisor.contract import ImageProcess, Storage
from tests.supervisor import images
from tests.supervisor.conftest import Lab
from tests.supervisor.zip_lab import ZipLab, direct, fakechroot, output_of, registry, zip_lab  # noqa: F401  # fixtures


@pytest.fixture(params=["image", "zip"])
def either(request: pytest.FixtureRequest) -> Lab:
    """One lab after the other: what holds in one runtime holds in the other."""
    lab: Lab = request.getfixturevalue({"image": "lab", "zip": "zip_lab"}[request.param])
    return lab


@pytest.fixture
def large(zip_lab, registry):  # noqa: F811
    """The lab with perl, Python and bash in its image."""
    zip_lab.image = images.root(registry.source, [images.shell(), images.languages()])
    return zip_lab


# -- the same in both runtimes


def test_exit_codes_and_signals_are_the_scripts_own(either):
    agent = either.agent("true")
    for script, code, message in [
        ("exit 7", 7, "script exited with code 7"),
        ("kill -9 $$", 137, "killed by SIGKILL"),
        ("#!/no/such\n", 127, "asks for '/no/such', which the image of function 'f' does not have"),
        ("#!/usr/bin/env no-such\n", 127, "asks for 'no-such'"),
        ("#!/etc/os-release\n", 126, "not executable"),
        ("nothing-of-that-name", 127, "script exited with code 127"),
    ]:
        answer = agent.invoke(direct(script))
        assert answer.error_type == "ScriptFailed"
        assert answer.document["exit_code"] == code
        assert message in answer.document["errorMessage"]
    assert agent.invoke({}).error_type is None


def test_a_script_that_takes_too_long_is_stopped_with_all_that_it_started(either):
    agent = either.agent("echo begun; sleep 50 & setsid sleep 50 & sh -c 'trap \"\" TERM; sleep 50'")
    answer = agent.invoke({}, timeout_s=4)
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptTimedOut", 124)
    assert answer.document["stackTrace"] == ["begun"]
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    assert children.read_text() == ""


def test_what_a_script_leaves_in_the_background_is_ended(either):
    agent = either.agent('sleep 50 & (setsid sleep 50 &) ; echo "$!"')
    started = time.monotonic()
    assert output_of(agent.invoke({})).strip().isdigit()
    assert time.monotonic() - started < 10
    assert Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text() == ""


def test_an_object_is_staged_in_processed_and_its_output_published(either, bucket):
    agent = either.agent(
        'tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(printf "%s" "$STORAGE_OBJECT_KEY" | tr / _)"; pwd; umask',
        outputs=(Storage("s3", bucket.name, "out"),),
        image=ImageProcess(working_directory="/etc"),
    )
    answer = agent.invoke({"Records": [bucket.put("in/a b.txt", b"hello"), bucket.put("in/c", b"world")]})
    assert output_of(answer) == "/etc\n0022\n"
    assert {key: bucket.get(key) for key in bucket.keys("out/")} == {"out/in_a b.txt": b"HELLO", "out/in_c": b"WORLD"}


def test_the_arguments_arrive_as_they_are(either):
    agent = either.agent('printf "%s|" "$@"')
    assert output_of(agent.invoke({"cmd_args": ["a b", "", "$HOME *", "é\n"]})) == "a b||$HOME *|é\n|"
    image = ImageProcess(entrypoint=("printf", "%s|"), command=("one",), environment={"PATH": "/nowhere:/usr/bin"})
    agent = either.agent(image=image)
    assert output_of(agent.invoke({})) == "one|"
    assert output_of(agent.invoke({"cmd_args": ["two *"]})) == "two *|"


def test_a_script_that_is_a_program_runs_as_one(either):
    assert output_of(either.agent(Path("/bin/echo").read_bytes()).invoke({"cmd_args": ["hello"]})) == "hello\n"


# -- the image's files, and not the machine's


def test_the_process_sees_the_images_files_and_what_every_container_shares(zip_lab):  # noqa: F811
    script = "ls /; cat /etc/os-release; ls /etc/passwd; stat -c %n /usr/share; wc -l < /etc/mtab; id -u"
    lines = output_of(zip_lab.agent(script).invoke({})).splitlines()
    assert lines[:10] == ["bin", "dev", "etc", "lib", "lib64", "proc", "sys", "tmp", "usr", "work"]
    assert lines[10] == "NAME=guest"
    assert "No such file" in lines[11]
    assert "No such file" in lines[12]
    assert int(lines[13]) > 0
    assert lines[14] == str(os.geteuid() or 993)


def test_nothing_of_the_machine_is_reached_by_any_way_there(large):
    """Nested shells, pipes, here-documents, other languages' own ways to start programs and to look at files."""
    agent = large.agent()
    told = "cat /etc/os-release"
    for script in [
        f"#!/bin/bash\nbash -c 'sh -c \"{told}\"' | cat",
        f"#!/bin/bash\ncat <({told})",
        "#!/bin/bash\ncat <<END\n$(< /etc/os-release)\nEND",
        "#!/bin/bash\ncd /etc && cd ../etc && cat os-release",
        f"#!/usr/bin/env -S sh -e\ncd /; env - PATH=/usr/bin A=b true; env A=b {told}",
        "#!/usr/bin/perl\nlocal $ENV{PATH} = '/bin'; system('cat', '/etc/os-release');",
        "#!/usr/bin/python3\nimport subprocess\nsubprocess.run(['/usr/bin/cat', '/etc/os-release'], env={}, check=True)",
        "#!/bin/bash\n(exec -c /usr/bin/cat /etc/os-release)",
        f"#!/usr/bin/perl\nprint `{told}`;",
        "#!/usr/bin/perl\nopen(F, '<', '/etc/os-release'); print <F>; exec('ls', '/etc/passwd') if -e '/etc/passwd';",
        "#!/usr/bin/python3\nimport subprocess\nsubprocess.run(['cat', '/etc/os-release'], check=True)",
        "#!/usr/bin/python3\nimport subprocess\nprint(subprocess.run('exec cat /etc/os-release', shell=True, capture_output=True, text=True).stdout, end='')",
        "#!/usr/bin/python3\nimport os\nos.chdir('/etc'); print(open('os-release').read() if os.getcwd() == '/etc' else '', end='')",
        "#!/usr/bin/python3\nimport os\nif os.path.realpath('/bin/sh') == '/usr/bin/dash': os.execvp('cat', ['cat', '/etc/os-release'])",
        "#!/usr/bin/python3\nimport os\nassert not os.path.exists('/etc/passwd') and 'var' not in os.listdir('/')\nos.posix_spawnp('cat', ['cat', '/etc/os-release'], os.environ)\nos.wait()",
        "find / -name 'os-rel*' -exec cat {} +",
    ]:
        assert output_of(agent.invoke(direct(script))) == "NAME=guest\n", script


def test_a_script_of_the_image_that_names_its_interpreter_runs(zip_lab, registry):  # noqa: F811
    layer = (
        images.Tree()
        .put("entry.sh", '#!/bin/sh -e\nprintf "%s|" "$0" "$@"\n', 0o755)
        .put("outer", "#!/entry.sh one\n", 0o755)
        .link("usr/local/bin/tool", "/opt/../entry.sh")
        .put("opt/.keep")
        .layer()
    )
    registry.blobs[images.digest(layer)] = layer
    zip_lab.image = images.root(registry.source, [images.shell(), layer])
    for entrypoint, expected in [
        (("/entry.sh", "a b"), "/entry.sh|a b|"),
        (("tool",), "/usr/local/bin/tool|"),
        (("/outer", "two"), "/entry.sh|one|/outer|two|"),
    ]:
        agent = zip_lab.agent(image=ImageProcess(entrypoint=entrypoint))
        assert output_of(agent.invoke({})) == expected


def test_the_images_working_directory_is_inside_the_image(zip_lab):  # noqa: F811
    image = ImageProcess(working_directory="/work", entrypoint=("sh", "-c", "pwd; ls -a; (: > file); cd ..; ls"))
    answer = zip_lab.agent(image=image).invoke({})
    assert output_of(answer).splitlines()[:4] == ["/work", ".", "..", ".keep"]
    assert "Permission denied" in output_of(answer)
    relative = ImageProcess(working_directory="/usr/bin", entrypoint=("./printf", "hello"))
    assert output_of(zip_lab.agent(image=relative).invoke({})) == "hello"


def test_only_the_images_and_the_functions_variables_reach_the_process(zip_lab):  # noqa: F811
    image = ImageProcess(environment={"PATH": "/usr/bin", "OWN": "1", "LANG": "C.UTF-8", "HOME": "/root"})
    running = zip_lab.start(zip_lab.function("env", image=image), environment={"FROM_LAMBDA": "2"})
    got = dict(line.split("=", 1) for line in output_of(running.invoke({})).splitlines())
    assert got["FROM_LAMBDA"] == "2"
    assert (got["PATH"], got["OWN"], got["LANG"], got["HOME"]) == ("/usr/bin", "1", "C.UTF-8", "/tmp")
    private = (
        "AWS_LAMBDA_EXEC_WRAPPER",
        "AWS_LAMBDA_RUNTIME_API",
        "PYTHON",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
        "LC_CTYPE",
    )
    assert [name for name in got if name.startswith(private)] == []
    assert "/var/lang" not in str(got)
    bare = zip_lab.agent("env")
    got = dict(line.split("=", 1) for line in output_of(bare.invoke({})).splitlines())
    assert got["PATH"].startswith("/usr/local/sbin:")
    assert "LANG" not in got


def test_libraries_are_found_where_the_image_says(zip_lab, registry):  # noqa: F811
    """A program whose library lies where only ld.so.conf, or the image's LD_LIBRARY_PATH, leads."""
    pcre = next(Path("/usr/lib/x86_64-linux-gnu").glob("libpcre2-8.so.0"), None) or Path(
        "/lib/x86_64-linux-gnu/libpcre2-8.so.0"
    )
    moved = (
        images.Tree()
        .put(f"usr/lib/x86_64-linux-gnu/.wh.{pcre.name}")
        .put(f"lib/x86_64-linux-gnu/.wh.{pcre.name}")
        .layer()
    )
    for folder, environment in [("opt/lib", {}), ("odd/place", {"LD_LIBRARY_PATH": "/nowhere:/odd/place"})]:
        brought = images.Tree().put(f"{folder}/{pcre.name}", pcre.read_bytes(), 0o755).layer()
        for layer in (moved, brought):
            registry.blobs[images.digest(layer)] = layer
        zip_lab.image = images.root(registry.source, [images.shell(), moved, brought])
        image = ImageProcess(environment={"LD_PRELOAD": "/no/such.so", **environment})
        agent = zip_lab.agent("ls -d /work", image=image)
        assert output_of(agent.invoke({})) == "/work\n"
        assert any(fact["fact"].startswith("LD_PRELOAD names a library") for fact in agent.facts())


# -- what cannot be held is refused


def test_static_foreign_and_broken_programs_are_refused_by_name(zip_lab, registry):  # noqa: F811
    cat = bytearray(Path("/bin/cat").read_bytes())
    foreign, narrow = bytes(cat[:18] + b"\xb7\0" + cat[20:]), bytes(cat[:4] + b"\1" + cat[5:])
    elsewhere = bytes(cat).replace(b"/lib64/ld-linux-x86-64.so.2\0", b"/lib64/ld-strange86-64.so.2\0")
    musl = bytes(cat).replace(b"/lib64/ld-linux-x86-64.so.2\0", b"/lib/ld-musl-x86_64.so.1\0\0\0\0")
    layer = images.Tree()
    for name, content in {
        "foreign": foreign,
        "narrow": narrow,
        "elsewhere": elsewhere,
        "musl": musl,
        "text": b"words",
    }.items():
        layer.put(f"opt/{name}", content, 0o755)
    layer.put("opt/static", Path("/bin/busybox").read_bytes(), 0o755).link("opt/sh", "static").put("opt/plain", "x")
    layer.put("opt/script", "#!/opt/static sh\nls /\n", 0o755).put("opt/circle", "#!/opt/circle\n", 0o755)
    packed = layer.layer()
    registry.blobs[images.digest(packed)] = packed
    zip_lab.image = images.root(registry.source, [images.shell(), packed])
    agent = zip_lab.agent(image=ImageProcess(entrypoint=("/usr/bin/env",)))
    assert agent.invoke({}).error_type is None
    for program, code, why in [
        ("static", 126, "is a static program"),
        ("sh", 126, "is a static program"),
        ("script", 126, "'/opt/static' cannot be run here: it is a static program"),
        ("musl", 126, "linked against musl"),
        ("foreign", 126, "another processor (arm64)"),
        ("narrow", 126, "not a 64-bit program"),
        ("elsewhere", 126, "its loader '/lib64/ld-strange86-64.so.2' is not in the image"),
        ("text", 126, "it is no program"),
        ("plain", 126, "is not executable"),
        ("circle", 126, "interpret one another"),
        ("absent", 127, "does not have"),
    ]:
        answer = agent.invoke(direct(f"#!/opt/{program}\n"))
        assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", code), program
        assert why in answer.document["errorMessage"], program
        assert f"/opt/{program}" in answer.document["errorMessage"] or program == "script"
    assert "bin" not in agent.log.splitlines()  # nothing has listed the machine's files


def test_what_cannot_be_held_is_not_started_by_the_users_process_either(zip_lab, registry):  # noqa: F811
    """Static programs of both kinds, and one of musl; shared libraries, executable as some distributions have them, stay as they are."""
    cat = Path("/bin/cat").read_bytes()
    musl = cat.replace(b"/lib64/ld-linux-x86-64.so.2\0", b"/lib/ld-musl-x86_64.so.1\0\0\0\0")
    layer = images.Tree().put("opt/static", Path("/bin/busybox").read_bytes(), 0o755).put("opt/musl", musl, 0o755)
    layer.put("opt/static-pie", Path("/sbin/ldconfig").read_bytes(), 0o755).put("opt/cat", cat, 0o755)
    layer.put("opt/odd", cat[:32] + b"\xff" * 32, 0o755)
    packed = layer.layer()
    registry.blobs[images.digest(packed)] = packed
    zip_lab.image = images.root(registry.source, [images.shell(), packed])
    script = "for p in 'static ls /' 'static-pie -p' 'musl /etc/os-release' odd 'cat /etc/os-release'; do /opt/$p; echo $?; done"
    *failed, text, code = output_of(zip_lab.agent(script).invoke({})).splitlines()
    assert (text, code) == ("NAME=guest", "0")
    assert [line for line in failed if not line.isdigit() and "/opt/" not in line] == []
    assert [line for line in failed if line.isdigit()] == ["127", "127", "127", "127"]


def test_a_command_of_too_many_words_is_refused(zip_lab):  # noqa: F811
    agent = zip_lab.agent('echo "$#"')
    assert output_of(agent.invoke({"cmd_args": ["x"] * 990})) == "990\n"
    answer = agent.invoke({"cmd_args": ["x"] * 1000})
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 126)
    assert "has 1002 words" in answer.document["errorMessage"]


def test_a_script_that_a_process_starts_gets_all_its_arguments(zip_lab, registry):  # noqa: F811
    layer = images.Tree().put("opt/told", '#!/bin/sh -e\nprintf "%s|" "$0" "$@"\n', 0o755).layer()
    registry.blobs[images.digest(layer)] = layer
    zip_lab.image = images.root(registry.source, [images.shell(), layer])
    agent = zip_lab.agent("/opt/told; /opt/told 'a b'; exec /opt/told 1 2 3")
    assert output_of(agent.invoke({})) == "/opt/told|/opt/told|a b|/opt/told|1|2|3|"


@pytest.mark.parametrize(("glibc", "library"), [("2.31", "2.14"), ("2.17", "2.14"), ("2.36", "2.34")])
def test_the_library_is_chosen_by_the_images_glibc(zip_lab, registry, glibc, library):  # noqa: F811
    zip_lab.image = images.root(registry.source, [images.shell()], glibc=glibc)
    agent = zip_lab.agent("env; sh -c 'cat /etc/os-release'")
    got = output_of(agent.invoke({}))
    assert f"/fakechroot/{library}/libfakechroot.so\n" in got
    assert (
        "FAKECHROOT_ELFLOADER_OPT_ARGV0" not in got
    )  # scripts that a process starts would lose their last two arguments
    assert got.endswith("NAME=guest\n")


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"glibc": "2.12"}, "older than 2.14"), ({"loader": "/lib64/no.so"}, "'/lib64/no.so' is not in it")],
)
def test_an_image_that_no_library_serves_is_refused(zip_lab, registry, changes, why):  # noqa: F811
    zip_lab.image = images.root(registry.source, [images.shell()], **changes)
    answer = zip_lab.agent("true").invoke({})
    assert answer.error_type == "ScriptFailed"
    assert why in answer.document["errorMessage"]


def test_the_sandbox_of_these_tests_refuses_what_lambda_refuses(zip_lab):  # noqa: F811
    """Otherwise nothing above would say anything about Lambda."""
    code = (
        "import ctypes, os, sys\nc = ctypes.CDLL(None, use_errno=True)\n"
        "def tried(result): return ctypes.get_errno() if result else 0\n"
        "print(tried(c.ptrace(0, 0, 0, 0)), tried(c.unshare(0x10000000)), tried(c.chroot(b'/')), tried(c.mount(b'a', b'/', b'tmpfs', 0, None)))\n"
        "try: open('/written', 'w')\nexcept OSError as e: print(e.errno > 0)"
    )
    command = zip_lab.command(zip_lab.function("true"))
    done = subprocess.run([*command[:3], command[3], "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1 1 1\nTrue\n"
    assert signal.SIGSYS  # refused with an error, not killed
