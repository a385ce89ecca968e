"""What people see: tables that fit, text that cannot drive the terminal, one JSON document."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar.report import Progress, Report, Style, plural, printable, size, style_of


def speak(style: Style | None = None) -> tuple[Report, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Report(style or Style(), out, err), out, err


@given(st.text())
def test_no_text_drives_the_terminal(text: str) -> None:
    shown = printable(text).replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert all(c.isprintable() or c in "\n\t" for c in shown)


def test_a_table_fits_the_terminal_and_says_when_it_shortened() -> None:
    report, out, _ = speak(Style(width=40))
    report.table([{"name": "f", "image": "x" * 80}], ("name", "image"), empty="none")
    assert max(map(len, out.getvalue().splitlines())) <= 40
    assert "…" in out.getvalue()


def test_an_object_key_with_a_newline_stays_on_its_row() -> None:
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
