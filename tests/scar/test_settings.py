"""Which of several sayings counts, and that each value knows who said it."""

from pathlib import Path

from scar.settings import Asked, Defined, settle


def test_a_flag_beats_everything_else() -> None:
    environ = {"SCAR_REGION": "eu-west-2", "AWS_REGION": "eu-west-3"}
    region = settle(Asked(region="eu-west-1"), environ, Defined(region="eu-south-1")).region
    assert (region.value, region.source) == ("eu-west-1", "flag --region")


def test_the_order_is_flag_then_scar_then_file_then_aws() -> None:
    environ = {"SCAR_REGION": "a", "AWS_REGION": "c", "AWS_DEFAULT_REGION": "d"}
    said = []
    for gone in ("SCAR_REGION", "AWS_REGION", "AWS_DEFAULT_REGION", None):
        said.append(settle(Asked(), environ, Defined(region="b" if "SCAR_REGION" in environ else None)).region.source)
        environ.pop(gone or "", None)
    assert said == ["SCAR_REGION", "AWS_REGION", "AWS_DEFAULT_REGION", "default"]
    assert settle(Asked(), {"AWS_REGION": "c"}, Defined(region="b")).region.source == "definition file"


def test_the_local_aws_ignores_the_region_of_a_real_account() -> None:
    settings = settle(Asked(local=True), {"AWS_REGION": "eu-west-3"})
    assert (settings.region.value, settings.region.source) == ("us-east-1", "default of the local AWS")


def test_without_any_word_the_region_is_left_to_botos_configuration() -> None:
    assert settle(Asked(), {}).region.value is None


def test_local_can_be_asked_for_by_the_environment() -> None:
    assert settle(Asked(), {"SCAR_LOCAL": "1"}).local.value
    assert not settle(Asked(), {"SCAR_LOCAL": "0"}).local.value


def test_folders_follow_xdg_and_ignore_a_relative_one() -> None:
    assert settle(Asked(), {"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}).local_state == Path("/s/scar/local")
    assert settle(Asked(), {"XDG_CACHE_HOME": "/c"}).cache == Path("/c/scar")
    assert settle(Asked(), {"XDG_CACHE_HOME": "c"}).cache == Path.home() / ".cache/scar"
