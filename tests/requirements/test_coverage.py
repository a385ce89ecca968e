"""The table of scenarios tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
ROW = re.compile(r"^\| ((?:TM|BA|MP|EV|KEY|CL|AP|SE|XF|LO|T1-)\d+) \| (.*?) \| (.*?) ?\|$", re.MULTILINE)
ROWS = {
    found[1]: (re.findall(r"`([^`]+\.py)`", found[2]), found[3])
    for found in ROW.finditer((HERE / "coverage.md").read_text())
}
ASKED = [
    *(f"TM{n}" for n in range(1, 21)),
    *(f"BA{n}" for n in range(1, 18)),
    *(f"MP{n}" for n in range(1, 16)),
    *(f"EV{n}" for n in range(1, 19)),
    *(f"KEY{n}" for n in range(1, 16)),
    *(f"CL{n}" for n in range(1, 26)),
    *(f"AP{n}" for n in range(1, 11)),
    *(f"SE{n}" for n in range(1, 21)),
    *(f"XF{n}" for n in range(1, 19)),
    *(f"LO{n}" for n in range(1, 19)),
]


@pytest.mark.parametrize("scenario", ASKED)
def test_a_scenario_is_held_where_the_table_says_or_the_table_says_why_not(scenario: str) -> None:
    files, remark = ROWS[scenario]
    assert files or remark
    silent = [file for file in files if not re.search(rf"\b{scenario}\b", (TESTS / file).read_text())]
    assert silent == []


def test_each_requirement_is_a_test_of_its_name() -> None:
    text = (HERE / "test_t1.py").read_text()
    for number in (*range(1, 8), *range(9, 18), 19, 20, 22, 24):
        assert f"def test_t1_{number:02}(" in text
