"""A `scar.cfg` stands below every definition: its values are defaults, its mistakes are told at their places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from scar.errors import FdlError
from scar.fdl import load
from scar.fdl.configuration import Configuration, said, under
from scar.fdl.configuration import load as read
from scar.fdl.model import Function
from scar.settings import Asked, Defined, configuration_files, explained, settle


def configured(folder: Path, **sections: Mapping[str, object]) -> Configuration:
    path = folder / "scar.cfg"
    path.write_text(json.dumps({"scar": {"config_version": "1.1.0"}, "aws": sections}, indent=1))
    return read(path)


def functions(configuration: Configuration, *items: Mapping[str, object]) -> tuple[Function, ...]:
    text = json.dumps({"functions": {"aws": list(items)}})
    return load.parse(text, "f.yaml", Path(), below=lambda root: under(root, configuration)).functions


def heavy(**batch: object) -> dict[str, object]:
    return {"lambda": {"name": "x", "execution_mode": "batch", "container": {"image": "scratch"}}, "batch": batch}


def test_a_definition_wins_and_what_it_leaves_open_is_the_configurations(tmp_path: Path) -> None:
    machines = {"max_v_cpus": 8, "instance_types": ["c7i"], "subnets": ["subnet-1a2b3c4d"]}
    below = configured(tmp_path, batch={"vcpus": 2, "memory": 4096, "compute_resources": machines})
    (fn,) = functions(below, heavy(memory=512, compute_resources={"instance_types": ["m7i"]}))
    assert (fn.batch.vcpus, fn.batch.memory) == ("2", 512)
    assert fn.batch.compute_resources.max_v_cpus == 8
    assert fn.batch.compute_resources.instance_types == ("m7i",)  # as a whole


def test_nodes_may_be_the_configurations(tmp_path: Path) -> None:
    """T1-19: as SCAR 4 wrote it, with its own default of `max_v_cpus`, which has no room for three nodes and is nobody's wish."""
    section = {"enabled": True, "number_nodes": 3, "main_node_index": 1}
    below = configured(tmp_path, batch={"multi_node_parallel": section, "compute_resources": {"max_v_cpus": 2}})
    alone, together = functions(below, {"lambda": {"name": "y", "container": {"image": "scratch"}}}, heavy())
    assert alone.jobs is None
    assert [group.target for group in together.batch.nodes] == ["0:0", "1:1", "2:2"]
    assert together.batch.compute_resources.max_v_cpus == 6
    with pytest.raises(FdlError, match="there is no node 1 among 1"):
        functions(below, heavy(multi_node_parallel={"number_nodes": 1}))


def test_a_function_without_jobs_hears_nothing_of_batch(tmp_path: Path) -> None:
    below = configured(tmp_path, **{"batch": {"vcpus": 64}, "lambda": {"memory": 1024}})
    (fn,) = functions(below, {"lambda": {"name": "x", "container": {"image": "scratch"}}})
    assert fn.lambda_.memory == 1024
    assert fn.jobs is None


def test_a_value_that_cannot_be_is_an_error_at_its_place_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(FdlError) as caught:
        configured(tmp_path, batch={"memory": 1}, cloudwatch={"log_retention_policy_in_days": 14})
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "scar.cfg")
    assert (problem.line, problem.path) == (7, "functions.aws[0].batch.memory")


def test_an_unknown_key_is_a_warning_with_a_suggestion(tmp_path: Path) -> None:
    (warning,) = configured(tmp_path, batch={"memmory": 1}).warnings
    assert "memmory" in warning.what
    assert warning.fix == "Did you mean `memory`?"


def test_the_default_of_a_definition_is_no_value_of_the_configuration(tmp_path: Path) -> None:
    assert said(configured(tmp_path, batch={"vcpus": 1, "memory": 1024, "environment": {"Variables": {}}})) == {}


def test_its_region_and_profile_come_after_the_variables_of_aws(tmp_path: Path) -> None:
    below = configured(tmp_path, **{"lambda": {"region": "eu-west-2", "boto_profile": "lab"}})
    said_there = Defined(below.profile, below.region)
    alone = settle(Asked(), {}, configured=said_there)
    assert (alone.region.value, alone.profile.value) == ("eu-west-2", "lab")
    assert settle(Asked(), {"AWS_REGION": "eu-north-1"}, configured=said_there).region.value == "eu-north-1"
    assert settle(Asked(local=True), {}, configured=said_there).region.value == "us-east-1"
    assert configured(tmp_path, **{"lambda": {"boto_profile": "default"}}).profile is None


def test_no_file_is_needed_and_the_folder_can_be_named(tmp_path: Path) -> None:
    assert configuration_files({"SCAR_CONFIG_FOLDER": str(tmp_path)}) == ()
    (tmp_path / "scar").mkdir()
    for folder, environ in (
        (tmp_path, {"SCAR_CONFIG_FOLDER": str(tmp_path)}),
        (tmp_path / "scar", {"XDG_CONFIG_HOME": str(tmp_path)}),
    ):
        (folder / "scar.cfg").write_text("{}")
        assert configuration_files(environ) == (folder / "scar.cfg",)
        (folder / "config.yaml").write_text("")
        assert configuration_files(environ) == (folder / "config.yaml", folder / "scar.cfg")


def ours(folder: Path, text: str) -> Configuration:
    path = folder / "config.yaml"
    path.write_text(text)
    return read(path)


def test_our_own_file_has_the_sections_of_a_function_and_counts_before_scar_4s(tmp_path: Path) -> None:
    first = ours(tmp_path, "lambda: {memory: 1024, tags: {team: a}}\nbatch: {vcpus: 2}\n")
    second = configured(tmp_path, **{"lambda": {"memory": 2048, "timeout": 60}})
    text = json.dumps({"functions": {"aws": [{"lambda": {"name": "x", "container": {"image": "scratch"}}}]}})
    (fn,) = load.parse(text, "f.yaml", Path(), below=lambda root: under(under(root, first), second)).functions
    assert (fn.lambda_.memory, fn.lambda_.timeout, fn.lambda_.tags) == (1024, 60, {"team": "a"})
    assert said(first)["aws.lambda.memory"] == (1024, f"{tmp_path / 'config.yaml'}:1")
    with pytest.raises(FdlError, match="a table of sections was expected"):
        ours(tmp_path, "[lambda]")
    assert ours(tmp_path, "").sections.entries == {}


def test_an_endpoint_is_made_by_a_definition_only_and_is_open_by_its_word_only(tmp_path: Path) -> None:
    """SE15: SCAR 4 wrote `authorizationType: NONE` into everybody's file."""
    section = {"stage_name": "lab", "method": {"authorizationType": "NONE"}, "service_id": "apigateway.amazonaws.com"}
    below = configured(tmp_path, api_gateway=section)
    (warning,) = below.warnings
    assert "aws.api_gateway.method" in warning.what
    plain: dict[str, object] = {"lambda": {"name": "x", "container": {"image": "scratch"}}}
    asked = {"lambda": {"name": "y", "container": {"image": "scratch"}}, "api_gateway": {"name": "y"}}
    without, made = functions(below, plain, asked)
    assert without.api_gateway is None
    assert made.api_gateway is not None
    assert (made.api_gateway.auth, made.api_gateway.stage_name) == ("iam", "lab")


def test_services_of_a_cluster_fall_back_on_what_is_said_of_it(tmp_path: Path) -> None:
    cluster = {"endpoint": "https://oscar.example", "auth_user": "me", "auth_password": "hunter2", "memory": "1Gi"}
    path = tmp_path / "scar.cfg"
    path.write_text(json.dumps({"scar": {}, "oscar": {"mine": cluster}, "aws": {}}))
    below = read(path)
    text = json.dumps({"functions": {"oscar": [{"mine": {"name": "s", "image": "scratch", "memory": "2Gi"}}]}})
    (service,) = load.parse(text, "f.yaml", Path(), below=lambda root: under(root, below)).services
    assert (service.oscar.endpoint, service.oscar.memory) == ("https://oscar.example", "2Gi")
    assert service.oscar.auth_password is not None
    assert service.oscar.auth_password.reveal() == "hunter2"
    assert said(below)["oscar.mine.auth_password"][0] == "(hidden)"
    assert "hunter2" not in repr(service)


def test_every_setting_tells_where_it_comes_from(tmp_path: Path) -> None:
    environ = {"SCAR_REGION": "eu-west-1", "SCAR_CACHE": str(tmp_path), "XDG_STATE_HOME": "/state", "AWS_REGION": "x"}
    told = {
        name: (origin.value, origin.source) for name, origin in explained(settle(Asked(local=True), environ), environ)
    }
    assert told["local"] == (True, "flag --local")
    assert told["region"] == ("eu-west-1", "SCAR_REGION")
    assert told["cache"] == (str(tmp_path), "SCAR_CACHE")
    assert told["local_state"] == ("/state/scar/local", "XDG_STATE_HOME")
    assert told["profile"] == (None, "default")
