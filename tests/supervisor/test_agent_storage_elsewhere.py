"""The agent as a process, between several storages: what comes from one goes to others, and a loop between functions ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faassupervisor.contract import MOST_HOPS, ContractError, Provider, Spec, Storage
from faassupervisor.function import load
from faassupervisor.lineage import of_metadata, through
from tests.supervisor.conftest import Bucket
from tests.supervisor.conftest import Lab as Agents
from tests.support.storage_servers import (
    ACCESS_KEY,
    LOGIN,
    PASSWORD,
    SECRET_KEY,
    Dav,
    Lab,
    Parameters,
    lab,
    parameters,
    webdav,
)

COPY = 'mkdir "$TMP_OUTPUT_DIR/deep"; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/deep/a.txt"; echo png > "$TMP_OUTPUT_DIR/b.png"; env'


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def dav(tmp_path: Path) -> Iterator[Dav]:
    (tmp_path / "dav").mkdir()
    with webdav(tmp_path / "dav") as server:
        yield server


@pytest.fixture(scope="module")
def ssm() -> Iterator[str]:
    Parameters.values |= {
        "/scar/f/minio.lab": json.dumps({"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}),
        "/scar/f/webdav.site": json.dumps({"login": LOGIN, "password": PASSWORD}),
    }
    with parameters() as url:
        yield url


@pytest.fixture
def providers(minio: Lab, dav: Dav) -> tuple[Provider, ...]:
    return (
        Provider("minio.lab", "/scar/f/minio.lab", minio.endpoint, private=True),
        Provider("webdav.site", "/scar/f/webdav.site", dav.endpoint, private=True, verify=False),
    )


def uploaded(provider: str, bucket: str, key: str) -> dict[str, Any]:
    """The event of an object of somebody else's storage, as whoever passes it on writes it."""
    record = {
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    return {"event": json.dumps({"Records": [record]}), "storage_provider": provider}


def test_a_file_of_minio_goes_to_webdav_to_s3_and_back(
    lab: Agents, bucket: Bucket, minio: Lab, dav: Dav, ssm: str, providers: tuple[Provider, ...]
) -> None:
    """The whole way; SE5 and SE6: neither the script's environment, the answer nor the log ever hold what opens the other storages."""
    minio.bucket("incoming")
    minio.bucket("results")
    minio.client.put_object(Bucket="incoming", Key="new/a.txt", Body=b"content")
    agent = lab.agent(
        COPY,
        inputs=(Storage("minio.lab", "incoming", "new"),),
        outputs=(
            Storage("s3", bucket.name, "out"),
            Storage("webdav.site", "home", "ada/done", suffix=(".png",)),
            Storage("minio.lab", "results", prefix=("deep/",)),
        ),
        providers=providers,
        log_level="DEBUG",
        environment={"AWS_ENDPOINT_URL_SSM": ssm},
    )
    answer = agent.invoke(uploaded("minio.lab", "incoming", "new/a.txt"))
    assert answer.error_type is None, answer.body
    assert answer.document["runs"][0]["outputs"] == [
        f"s3://{bucket.name}/out/b.png",
        f"s3://{bucket.name}/out/deep/a.txt",
        "webdav.site://home/ada/done/b.png",
        "minio.lab://results/deep/a.txt",
    ]
    assert (bucket.get("out/deep/a.txt"), minio.get("results", "deep/a.txt")) == (b"content", b"content")
    assert dav.files() == ["home/ada/done/b.png"]
    assert minio.lineage("results", "deep/a.txt") == "f"
    agent.says("INPUT_FILE_PATH")
    for secret in (SECRET_KEY, PASSWORD, ACCESS_KEY):
        assert secret not in agent.log
        assert secret.encode() not in answer.body
    warned = [fact for fact in agent.facts() if fact["level"] == "WARNING"]
    assert [fact["provider"] for fact in warned] == ["webdav.site"]  # its certificate is not checked: that is said

    answer = agent.invoke(uploaded("minio.lab", "incoming", "old/secret"))
    assert answer.error_type == "BadEvent"
    assert "the function has no input of minio.lab where this object lies" in answer.document["errorMessage"]
    answer = agent.invoke(uploaded("minio.other", "incoming", "new/a.txt"))
    assert answer.error_type == "BadEvent"
    assert "minio.other" in answer.document["errorMessage"]

    dav.refuse = lambda method, path: 507 if method == "PUT" else None
    answer = agent.invoke(uploaded("minio.lab", "incoming", "new/a.txt"))
    assert answer.error_type == "StageOutFailed"
    assert answer.document["errorMessage"].startswith("webdav.site://home/ada/done/b.png cannot be written")
    assert answer.document["runs"][0]["outputs"] == answer_outputs(bucket)  # what was published before


def answer_outputs(bucket: Bucket) -> list[str]:
    return [f"s3://{bucket.name}/out/b.png", f"s3://{bucket.name}/out/deep/a.txt"]


def test_a_loop_that_no_plan_could_see_ends_when_it_first_comes_round(lab: Agents, bucket: Bucket) -> None:
    """CL24, LO17, T1-15: a chain of functions passes, and each hop is told; the first function refuses what it has made."""
    script = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/x"; echo ran >> "$TMP_OUTPUT_DIR/x"'
    agent = lab.agent(script, outputs=(Storage("s3", bucket.name, "loop"),))
    plain = bucket.put("loop/start", b"")
    for _ in range(2):  # the same event again is no loop
        assert agent.invoke({"Records": [plain]}).error_type is None
    made = bucket.client.head_object(Bucket=bucket.name, Key="loop/x")
    assert made["Metadata"] == {"scar-lineage": "f"}
    answer = agent.invoke({"Records": [bucket.record("loop/x")]})
    assert answer.error_type == "LoopRefused"
    message = answer.document["errorMessage"]
    assert message.startswith(
        f"s3://{bucket.name}/loop/x is itself made of an output of this function: f → f is a loop"
    )
    assert bucket.get("loop/x") == b"ran\n"

    for lineage, error in (
        ("a,b", None),
        ("a,f,b", "LoopRefused"),
        (",".join(f"g{n}" for n in range(40)), "LoopRefused"),
    ):
        bucket.put("loop/y", b"", Metadata={"scar-lineage": lineage})
        assert agent.invoke({"Records": [bucket.record("loop/y")]}).error_type == error, lineage
    assert "a,b" in [fact.get("lineage") for fact in agent.facts() if fact["fact"] == "staged in"]
    bucket.client.put_object(Bucket=bucket.name, Key="loop/x", Body=bucket.get("loop/x"))  # somebody uploads it again
    assert agent.invoke({"Records": [bucket.record("loop/x")]}).error_type is None


@pytest.mark.parametrize("provider", ["minio.lab", "onedata.space"])
def test_a_spec_that_names_storage_which_it_does_not_describe_is_refused_at_the_start(
    tmp_path: Path, provider: str
) -> None:
    """An output that nobody could publish is never found out after a run."""
    (tmp_path / "spec.json").write_bytes(Spec("f", outputs=(Storage(provider, "results"),)).to_json())
    with pytest.raises(ContractError, match=f"storage provider '{provider}'"):
        load(tmp_path)


def test_a_lineage_fits_into_what_s3_keeps_of_an_object() -> None:
    """2 KB of metadata; source: AmazonS3/latest/userguide/UsingMetadata."""
    lineage: tuple[str, ...] = ()
    hops = 0
    try:
        while True:
            lineage = through(lineage, f"{hops:064d}", "s3://b/k")
            hops += 1
            assert len("scar-lineage") + len(",".join(lineage)) <= 2048
    except Exception as error:
        assert "has been through" in str(error)
    assert 30 <= hops <= MOST_HOPS
    assert of_metadata({"Scar-Lineage": " a, b,,c "}) == ("a", "b", "c")
