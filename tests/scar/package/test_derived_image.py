"""From a user's image to a function's image."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from faassupervisor import contract
from scar.errors import ScarError
from scar.fdl.model import Container, Function, Io, Lambda
from scar.package import function_image, oci
from scar.package.agent import AgentLayer
from scar.package.derive import assemble, derive, function_layer, read_config
from scar.package.layer import memory_blob
from scar.package.spec import spec_of
from tests.scar.package.images import bytes_of, config_of, digest_of, run_inside, small_layer, unpack

SPEC = contract.Spec("hello", environment={"A": "1"})


def base(**settings: object) -> oci.Image:
    layer = small_layer()
    return assemble(json.loads(config_of(layer.diff_id, **settings)), (layer,))


def spec_in(image: oci.Image) -> contract.Spec:
    with tarfile.open(fileobj=io.BytesIO(bytes_of(image.layers[-1]))) as tar:
        return contract.Spec.from_json(tar.extractfile("opt/scar/function/spec.json").read())  # type: ignore[union-attr]


def test_the_image_gets_two_layers_and_the_agent_as_its_entry_point(agent: AgentLayer) -> None:
    image = derive(base(), agent, spec=SPEC, script=b"#!/bin/sh\n")
    manifest, config = json.loads(image.manifest), read_config(image)
    assert image.layers[:1] == base().layers
    assert image.layers[1] == agent.layer
    assert manifest["mediaType"] == oci.DOCKER_MANIFEST
    assert [layer["digest"] for layer in manifest["layers"]] == [x.blob.descriptor.digest for x in image.layers]
    assert {layer["mediaType"] for layer in manifest["layers"]} == {oci.DOCKER_LAYER_GZIP}
    assert config["config"]["Entrypoint"] == list(agent.entrypoint)
    assert "Cmd" not in config["config"]
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    assert len(config["history"]) == 3
    assert image.digest == digest_of(image.manifest)


def test_the_images_own_process_is_remembered_in_the_spec(agent: AgentLayer) -> None:
    own = {
        "Entrypoint": ["/bin/tool", "--fast"],
        "Cmd": ["in.txt"],
        "User": "1000:1000",
        "WorkingDir": "/data",
        "Env": ["PATH=/bin", "LD_PRELOAD=/lib/jemalloc.so", "PYTHONHOME=/usr", "EMPTY=", "NOTHING"],
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGQUIT",
    }
    image = derive(base(**own), agent, spec=SPEC, script=None)
    assert spec_in(image) == dataclasses.replace(
        SPEC,
        has_script=False,
        image=contract.ImageProcess(
            entrypoint=("/bin/tool", "--fast"),
            command=("in.txt",),
            environment={
                "PATH": "/bin",
                "LD_PRELOAD": "/lib/jemalloc.so",
                "PYTHONHOME": "/usr",
                "EMPTY": "",
                "NOTHING": "",
            },
            working_directory="/data",
            user="1000:1000",
        ),
    )
    settings = read_config(image)["config"]
    assert settings["Env"] == ["PATH=/bin", "EMPTY=", "NOTHING"]
    assert settings["WorkingDir"] == "/"
    assert not {"User", "Cmd", "Healthcheck", "StopSignal"} & set(settings)


def test_the_same_inputs_give_the_same_digest_and_another_script_another(agent: AgentLayer) -> None:
    first = derive(base(), agent, spec=SPEC, script=b"one")
    assert derive(base(), agent, spec=SPEC, script=b"one").digest == first.digest
    assert derive(base(), agent, spec=SPEC, script=b"two").digest != first.digest


def test_a_script_costs_a_few_hundred_bytes_and_can_be_executed(agent: AgentLayer) -> None:
    layer = function_layer(SPEC, b"#!/bin/sh\necho hello\n")
    assert layer.blob.descriptor.size < 1000
    content = bytes_of(layer)
    assert layer.diff_id == digest_of(gzip.decompress(content))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes == {
        "opt/scar/function": 0o755,
        "opt/scar/function/spec.json": 0o644,
        "opt/scar/function/script": 0o755,
        "tmp": 0o1777,
    }


def test_a_functions_image_is_not_derived_from_again(agent: AgentLayer) -> None:
    image = derive(base(), agent, spec=SPEC, script=None)
    with pytest.raises(ScarError, match="already a function's image"):
        derive(image, agent, spec=SPEC, script=None)


def test_an_image_for_another_architecture_is_refused(agent: AgentLayer) -> None:
    layer = small_layer()
    other = assemble(json.loads(config_of(layer.diff_id)) | {"architecture": "s390x"}, (layer,))
    with pytest.raises(ScarError, match="linux/s390x"):
        derive(other, agent, spec=SPEC, script=None)


def test_an_image_with_too_many_layers_is_refused(agent: AgentLayer) -> None:
    layer = small_layer()
    many = assemble(json.loads(config_of(*[layer.diff_id] * 126)), (layer,) * 126)
    with pytest.raises(ScarError, match="126 layers"):
        derive(many, agent, spec=SPEC, script=None)


@pytest.mark.parametrize("config", [b"[]", b"{", b'{"os":"linux","architecture":"amd64","config":{"Env":"A=1"}}'])
def test_a_configuration_that_is_none_is_refused(agent: AgentLayer, config: bytes) -> None:
    image = dataclasses.replace(base(), config=memory_blob(config, oci.OCI_CONFIG))
    with pytest.raises(ScarError, match="configuration"):
        derive(image, agent, spec=SPEC, script=None)


def test_history_that_does_not_fit_the_layers_is_replaced(agent: AgentLayer) -> None:
    layer = small_layer()
    config = json.loads(config_of(layer.diff_id))
    kept = derive(
        assemble(config | {"history": [{"created_by": "me"}, {"empty_layer": True}]}, (layer,)),
        agent,
        spec=SPEC,
        script=None,
    )
    assert [item.get("created_by") for item in read_config(kept)["history"]] == [
        "me",
        None,
        f"scar: agent: {agent.version}",
        "scar: function",
    ]
    replaced = derive(
        assemble(config | {"history": [{"created_by": "me"}] * 5}, (layer,)), agent, spec=SPEC, script=None
    )
    assert len(read_config(replaced)["history"]) == 3


def test_a_definition_becomes_the_agents_spec() -> None:
    fn = Function(
        lambda_=Lambda(
            name="gray",
            execution_mode="lambda-batch",
            log_level="DEBUG",
            init_script=Path("/x/script.sh"),
            container=Container(image="scratch", environment={"A": "1"}, timeout_threshold=7),
            input=(Io(path="in/a/b", suffix=(".jpg",)),),
            output=(Io(path="out", storage_provider="minio.lab", prefix=("x",)),),
        )
    )
    assert spec_of(fn) == contract.Spec(
        name="gray",
        mode="lambda-batch",
        has_script=True,
        environment={"A": "1"},
        inputs=(contract.Storage("s3", "in", "a/b", (), (".jpg",)),),
        outputs=(contract.Storage("minio.lab", "out", "", ("x",)),),
        timeout_threshold_s=7,
        log_level="DEBUG",
    )


def test_a_function_with_a_script_on_scratch_becomes_an_image_that_runs(cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("#!/usr/bin/env python3\nprint('hello')\n")
    fn = Function(lambda_=Lambda(name="f", init_script=script, container=Container(image="scratch")))
    image = function_image(fn, cache=cache, tell=lambda done, total, what: None)
    root = unpack(image, tmp_path / "root")
    assert run_inside(root, contract.SCRIPT_PATH).stdout == "hello\n"
    assert function_image(fn, cache=cache).digest == image.digest


def test_an_init_script_that_is_not_there_is_named(cache: Path, tmp_path: Path) -> None:
    fn = Function(lambda_=Lambda(name="f", init_script=tmp_path / "none.sh", container=Container(image="scratch")))
    with pytest.raises(ScarError, match=r"none\.sh: the init script cannot be read"):
        function_image(fn, cache=cache)
