"""What was acknowledged is there after a crash, whatever the control plane's snapshot remembers."""

from __future__ import annotations

from collections.abc import Callable

from lambda_bench import Local, layer, reset_moto


def test_images_are_there_after_a_restart_that_lost_the_control_plane(make_local: Callable[..., Local]) -> None:
    local = make_local()
    local.ecr.create_repository(repositoryName="kept/images")
    old = local.push("kept/images", "v1", layer({"etc/a": b"1"}))
    new = local.push("kept/images", "v1", layer({"etc/a": b"2"}))
    local.__exit__()
    reset_moto()
    with local.reopened() as again:
        shown = again.ecr.describe_images(repositoryName="kept/images")["imageDetails"]
        assert {one["imageDigest"]: one.get("imageTags") for one in shown} == {old: None, new: ["v1"]}
        assert again.registry.image("kept/images", "v1").digest == new
        assert again.registry.has("kept/images", old)


def test_an_upload_that_was_cut_by_a_crash_begins_again(make_local: Callable[..., Local]) -> None:
    local = make_local()
    local.ecr.create_repository(repositoryName="cut")
    where = local.web.post(f"{local.url}/v2/cut/blobs/uploads/").headers["Location"]
    local.web.patch(local.url + where, data=b"half")
    local.__exit__()
    with local.reopened() as again:
        answer = again.web.put(again.url + where, data=b"")
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "BLOB_UPLOAD_UNKNOWN")
        assert not list((again.folder / "registry" / "uploads").iterdir())
