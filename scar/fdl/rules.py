"""What no single key shows: files that must exist, keys that exclude each other, and names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from scar import limits
from scar.fdl.files import Look
from scar.fdl.forms import image_path
from scar.fdl.model import Function, Lambda
from scar.fdl.places import shown
from scar.fdl.read import Reading
from scar.fdl.rules_batch import jobs, labels, room_in_lambda
from scar.fdl.rules_network import account_and_network
from scar.fdl.rules_services import services_of_clusters
from scar.fdl.rules_storage import OWN_S3, storage
from scar.fdl.rules_workflow import check_workflow
from scar.fdl.rules_zip import code_starts_nothing, zip_runtime
from scar.fdl.services import Service


def check(functions: Sequence[Function], services: Sequence[Service], reading: Reading, look: Look) -> None:
    """Add what is wrong between keys and between functions to the reading's problems."""
    for index, function in enumerate(functions):
        path = f"functions.aws[{index}].lambda"
        if reading.sound(path):
            _container(function.lambda_, f"{path}.container", reading, look)
            _scripts(function.lambda_, path, reading, look)
            _times(function.lambda_, path, reading)
            zip_runtime(function.lambda_, path, reading)
            room_in_lambda(function, f"functions.aws[{index}]", reading)
            jobs(function, f"functions.aws[{index}]", reading)
            account_and_network(function, f"functions.aws[{index}]", reading)
            _images_of_nodes(function, f"functions.aws[{index}]", reading, look)
    if not functions and not services and not reading.problems.errors:
        reading.problems.add(
            reading.place("functions.aws"),
            "functions.aws",
            "there is no function",
            "Add an item with a `lambda` section.",
        )
    for service in services:
        if service.oscar.script is not None:
            _exists(service.oscar.script, f"{service.path}.script", reading, look, most=limits.SCRIPT_BYTES)
    services_of_clusters(services, reading)
    storage(functions, services, reading)
    _names(functions, reading)
    labels(functions, reading)
    uploading = [function for function in functions if function.lambda_.deployment.bucket]
    for index, function in enumerate(functions) if uploading else ():
        for number, io in enumerate(function.lambda_.input):
            path = f"functions.aws[{index}].lambda.input[{number}].path"
            if io.provider == OWN_S3 and reading.sound(path):
                code_starts_nothing(uploading, io, path, reading)
    check_workflow(functions, reading)


def _container(fn: Lambda, path: str, reading: Reading, look: Look) -> None:
    image, image_file = f"{path}.image" in reading.places, f"{path}.image_file" in reading.places
    place = reading.place(path)
    if image and image_file:
        reading.problems.add(place, path, "`image` and `image_file` are both given", "Keep one of the two.")
    elif not image and not image_file and not any(each.startswith(path) for each in reading.failed):
        reading.problems.add(
            place, path, "no image is given", "Add `container: {image: …}`, or `image_file` for an archive on disk."
        )
    elif fn.container.image_file is not None:
        _exists(fn.container.image_file, f"{path}.image_file", reading, look, folder_too=True)
    elif fn.container.image is not None and (file := image_path(fn.container.image)) is not None:
        _exists(reading.folder / file, f"{path}.image", reading, look, folder_too=True)
    sound = not {f"{path}.create_image", f"{path}.image"} & reading.failed
    if sound and not fn.container.create_image and not re.fullmatch(limits.ECR_IMAGE_PATTERN, fn.container.image or ""):
        reading.problems.add(
            reading.place(f"{path}.create_image"),
            f"{path}.create_image",
            "an image that is run as it is has to be in a private ECR repository",
            "Push it with `scar image push --to ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG` and name it in `image`, or remove `create_image`.",
        )


def _images_of_nodes(fn: Function, path: str, reading: Reading, look: Look) -> None:
    for index, each in enumerate(fn.batch.multi_node_parallel.node_ranges):
        if each.image is not None and (file := image_path(each.image)) is not None:
            key = f"{path}.batch.multi_node_parallel.node_ranges[{index}].image"
            _exists(reading.folder / file, key, reading, look, folder_too=True)


def _scripts(fn: Lambda, path: str, reading: Reading, look: Look) -> None:
    for name, script in (("init_script", fn.init_script), ("run_script", fn.run_script)):
        if script is not None:
            _exists(script, f"{path}.{name}", reading, look, most=limits.SCRIPT_BYTES)
    if fn.extra_payload is not None:
        _exists(fn.extra_payload, f"{path}.extra_payload", reading, look, folder_too=True)


def _exists(
    file: Path, path: str, reading: Reading, look: Look, *, folder_too: bool = False, most: int | None = None
) -> None:
    found = look(file)
    name = shown(str(file.relative_to(reading.folder) if file.is_relative_to(reading.folder) else file))
    what = fix = None
    match found.kind:
        case "absent":
            start = "from the current folder" if reading.place(path).source else "against the folder of the definition"
            what, fix = f"there is no file '{name}'", f"Paths are resolved {start}."
        case "unreadable":
            what, fix = f"'{name}' may not be read", "Give yourself permission to read it."
        case "special":
            what, fix = f"'{name}' is a device, a pipe or a socket", "Name a regular file."
        case "folder" if not folder_too:
            what, fix = f"'{name}' is a folder", "Name a file in it."
        case "file" if found.size == 0:
            what, fix = (
                f"'{name}' is empty",
                "Write the script, or remove the key." if most else "Write the image again.",
            )
        case "file" if most is not None and found.size > most:
            what = f"'{name}' has {found.size} bytes, SCAR takes {most}"
            fix = "Put what is large into the image."
    if what is not None:
        reading.problems.add(reading.place(path), path, what, fix)


def _times(fn: Lambda, path: str, reading: Reading) -> None:
    """What a file says of the threshold must leave the script time. The default never takes more than a quarter (agent)."""
    threshold = fn.container.timeout_threshold
    key = f"{path}.container.timeout_threshold"
    if key not in reading.places or {f"{path}.timeout", key} & reading.failed or threshold < fn.timeout:
        return
    reading.problems.add(
        reading.place(key),
        key,
        f"of {fn.timeout} s, {threshold} s are kept back for the report, which leaves the script nothing",
        "Raise `timeout`, or lower `container.timeout_threshold`.",
    )


def _names(functions: Sequence[Function], reading: Reading) -> None:
    first: dict[str, int] = {}
    for index, function in enumerate(functions):
        path = f"functions.aws[{index}].lambda.name"
        if not reading.sound(path):
            continue
        if function.name in first:
            reading.problems.add(
                reading.place(path),
                path,
                f"the name `{function.name}` is taken by functions.aws[{first[function.name]}]",
                "Give each function its own name.",
            )
        first.setdefault(function.name, index)
