"""Whose exit code `scar run` ends with."""

import pytest

from faassupervisor.contract import Failure
from scar.commands.run import exit_code_of


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ('{"errorType": "ScriptFailed", "errorMessage": "script exited with code 3", "exit_code": 3}', 3),
        ('{"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: x Error: Task timed out after 3.00 seconds"}', 124),
        ('{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: x Error: Runtime exited with error: signal: killed"}', 137),
        ('{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: x Error: Runtime exited with error: exit status 1"}', 1),
        ('{"errorMessage": "something older"}', 1),
    ],
)  # fmt: skip
def test_a_failure_means_one_exit_code(document: str, code: int) -> None:
    assert exit_code_of(Failure.from_json(document)) == code
