"""A layer that was put into one repository is mounted from there into the next, where the registry lets it be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import assemble
from scar.package.layer import File, layer_of
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials
from scar.package.sightings import Sightings
from tests.support.registries import PASSWORD, USER, RunningRegistry

LARGE = 256 << 10
LOGIN = Credentials(USER, PASSWORD)


def function(shared: oci.Layer, script: bytes) -> oci.Image:
    """An image of a shared large layer and a small one of its own."""
    own = layer_of([File("script", script)])
    rootfs = {"type": "layers", "diff_ids": [shared.diff_id, own.diff_id]}
    return assemble({"architecture": host_architecture(), "os": "linux", "config": {}, "rootfs": rootfs}, (shared, own))


@pytest.fixture
def shared() -> oci.Layer:
    return layer_of([File("noise", os.urandom(LARGE))])


def test_the_second_function_sends_only_what_is_its_own(
    token_registry: RunningRegistry, shared: oci.Layer, tmp_path: Path
) -> None:
    registry = Registry(token_registry.host, LOGIN)
    first = Sightings(tmp_path, registry.host).push(function(shared, b"1"), registry, "sighted/one")
    second = Sightings(tmp_path, registry.host).push(function(shared, b"2"), registry, "sighted/two")
    assert first.bytes_mounted == 0
    assert second.bytes_mounted == shared.blob.descriptor.size
    assert second.bytes_sent < 8 << 10


@pytest.mark.parametrize("noted", ["sighted/gone", "sighted/../..", ""])
def test_a_layer_that_is_not_where_it_was_noted_is_sent(
    token_registry: RunningRegistry, shared: oci.Layer, tmp_path: Path, noted: str
) -> None:
    registry = Registry(token_registry.host, LOGIN)
    image = function(shared, b"1")
    Sightings(tmp_path, registry.host).note(image, noted)
    result = Sightings(tmp_path, registry.host).push(image, registry, f"sighted/sent{len(noted)}")
    assert result.bytes_mounted == 0
    assert result.bytes_sent > LARGE


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sha256:x": 7}', b"\xff"])
def test_notes_that_cannot_be_read_are_as_none(shared: oci.Layer, tmp_path: Path, content: bytes) -> None:
    image = function(shared, b"1")
    sightings = Sightings(tmp_path, "registry.example")
    sightings.note(image, "one")
    (notes,) = tmp_path.rglob("layers.json")
    notes.write_bytes(content)
    assert sightings.located(image) == image


def test_small_layers_and_other_registries_are_not_remembered(shared: oci.Layer, tmp_path: Path) -> None:
    image = function(shared, b"1")
    Sightings(tmp_path, "registry.example").note(image, "one")
    (notes,) = tmp_path.rglob("layers.json")
    assert json.loads(notes.read_bytes()) == {shared.blob.descriptor.digest: "one"}
    assert Sightings(tmp_path, "other.example").located(image) == image
