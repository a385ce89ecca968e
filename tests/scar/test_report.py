"""What people see: tables that fit, text that cannot drive the terminal, one JSON document."""

import io
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scar.errors import UsageError
from scar.report import Progress, Report, Style, plural, printable, size, style_of


def speak(style: Style | None = None) -> tuple[Report, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Report(style or Style(), out, err), out, err


@given(st.text())
def test_no_text_drives_the_terminal(text: str) -> None:
    """SE17."""
    shown = printable(text)
    for code in ("0", "1", "2", "31", "32", "33"):
        shown = shown.replace(f"\x1b[{code}m", "")
    assert all(c.isprintable() or c in "\n\t" for c in shown)


def test_a_table_fits_the_terminal_and_says_when_it_shortened() -> None:
    report, out, _ = speak(Style(width=40))
    report.table([{"name": "f", "image": "x" * 80}], ("name", "image"), empty="none")
    assert max(map(len, out.getvalue().splitlines())) <= 40
    assert "…" in out.getvalue()


def test_an_object_key_with_a_newline_stays_on_its_row() -> None:
    """SE17."""
    report, out, _ = speak()
    report.table([{"key": "a\nb\x1b[2J"}], ("key",), empty="none")
    assert out.getvalue().splitlines()[1] == "a\\nb\\x1b[2J"


def test_an_empty_table_is_a_remark_and_not_data() -> None:
    report, out, err = speak()
    report.table([], ("name",), empty="There is nothing.")
    assert (out.getvalue(), err.getvalue()) == ("", "There is nothing.\n")


def test_quiet_silences_remarks_but_not_complaints() -> None:
    report, _, err = speak(Style(quiet=True))
    report.say("by the way")
    report.complain("it broke")
    assert err.getvalue() == "it broke\n"


def test_a_document_is_json() -> None:
    report, out, _ = speak(Style(format="json"))
    report.document({"a": (1, 2)})
    assert json.loads(out.getvalue()) == {"a": [1, 2]}


def test_progress_of_something_quick_shows_nothing() -> None:
    report, out, err = speak(Style(redraw=True))
    with report.progress("uploading") as progress:
        progress(1, 2, "a")
    assert out.getvalue() == ""
    assert err.getvalue() == ""


def test_progress_adds_up_parts_and_shows_their_details() -> None:
    report, _, err = speak(Style())
    progress = Progress(report, "pushing")
    progress.QUIET_FIRST_S = progress.PLAIN_S = 0
    progress(1024, 4096, "push, 0 of 2 layers")
    progress(2048, 4096, "push, 1 of 2 layers")
    progress(1024, 2048, "compress")
    assert err.getvalue().splitlines() == [
        "pushing  1.0 KiB of 4.0 KiB  push, 0 of 2 layers",
        "pushing  2.0 KiB of 4.0 KiB  push, 1 of 2 layers",
        "pushing  3.0 KiB of 6.0 KiB  compress",
    ]


@pytest.mark.parametrize(
    ("environ", "tty", "colour"),
    [({}, True, True), ({}, False, False), ({"NO_COLOR": "1"}, True, False), ({"FORCE_COLOR": "1"}, False, True)],
)
def test_colour_obeys_the_terminal_and_the_user(environ: dict[str, str], tty: bool, colour: bool) -> None:
    class Out(io.StringIO):
        def isatty(self) -> bool:
            return tty

    assert style_of("table", quiet=False, out=Out(), err=Out(), environ=environ).colour is colour


def test_sizes_and_counts_read_as_people_say_them() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 * 1024**3)] == ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]
    assert [plural(1, "object"), plural(2, "object")] == ["1 object", "2 objects"]


def test_yaml_says_what_json_says_and_a_query_takes_a_part_of_it() -> None:
    value = {"a": [{"n": 1, "t": "é\n\x1b"}, {"n": 2, "t": "no"}]}
    for style in (Style(format="json"), Style(format="yaml")):
        report, out, _ = speak(style)
        report.document(value)
        assert report.json
        assert yaml.safe_load(out.getvalue()) == value
        assert "\x1b" not in out.getvalue()
    report, out, _ = speak(Style(format="json", query="a[?n > `1`].t | [0]"))
    report.document(value)
    assert json.loads(out.getvalue()) == "no"
    report, out, _ = speak(Style(format="json", query="n"))
    report.documents([{"n": 1}, {"m": 2}, {"n": 3}], lines=True)
    assert out.getvalue() == "1\n3\n"


def test_plain_text_cuts_nothing_and_is_a_line_for_each_row() -> None:
    report, out, _ = speak(Style(format="text", width=20))
    report.table([{"a": "x" * 50, "b": ["c", "d"]}, {"a": "y\tz"}], ("a", "b"), empty="none")
    assert out.getvalue() == f"{'x' * 50}\tc, d\ny\\tz\t-\n"


def test_columns_that_there_is_no_room_for_are_left_out_first_those_that_matter_least() -> None:
    report, out, _ = speak(Style(width=40))
    rows = [{"id": "i" * 24, "name": "n" * 12, "why": "w" * 60}]
    report.table(rows, ("id", "name", "why"), empty="none", whole=("id",), spare=("why",))
    assert out.getvalue().splitlines() == ["ID                        NAME", f"{'i' * 24}  {'n' * 12}"]


def test_a_bar_shows_what_part_is_through_on_a_terminal_and_nothing_when_it_is_not_wanted() -> None:
    report, _, err = speak(Style(redraw=True, width=200))
    progress = Progress(report, "uploading", 4096)
    progress.QUIET_FIRST_S = progress.REDRAW_S = 0  # type: ignore[misc]
    progress(1024, 2048, "a")
    assert "uploading  [#####...............] 25%  1.0 KiB of 4.0 KiB" in err.getvalue()
    report, _, err = speak(Style(progress="none"))
    progress = Progress(report, "uploading", 4096)
    progress.QUIET_FIRST_S = progress.PLAIN_S = 0  # type: ignore[misc]
    progress(1024, 2048, "a")
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("said", "answer"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False), ("", False)]
)
def test_a_question_is_put_to_a_person_only_and_anything_but_yes_is_no(said: str, answer: bool) -> None:
    out, err = io.StringIO(), io.StringIO()
    report = Report(Style(may_ask=True), out, err, io.StringIO(said))
    assert report.confirm("Go on?", refusal="") is answer
    assert (out.getvalue(), err.getvalue()) == ("", "Go on? [y/N] ")
    with pytest.raises(UsageError, match="this is much"):
        speak()[0].confirm("Go on?", refusal="this is much")


def test_colour_is_only_beside_words_and_can_be_asked_for() -> None:
    assert Report(Style(colour=True)).paint("+ role", "added") == "\x1b[32m+ role\x1b[0m"
    assert Report(Style()).paint("+ role", "added") == "+ role"
    for asked, expected in (("always", True), ("never", False)):
        style = style_of(
            "table",
            quiet=False,
            out=io.StringIO(),
            err=io.StringIO(),
            environ={"NO_COLOR": "1"} if expected else {"FORCE_COLOR": "1"},
            colour=asked,
        )  # type: ignore[arg-type]
        assert (style.colour, style.colour_remarks) == (expected, expected)
