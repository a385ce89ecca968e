"""What a plan gives leave to is said before it is given: all of what is new, and nothing of what stays."""

from __future__ import annotations

import io

from scar.aws.resources.function_url import FunctionUrl
from scar.aws.resources.permission import InvokePermission
from scar.aws.resources.role import Role, canonical
from scar.commands.showing import Planned, document, show
from scar.plan.diff import Plan, diff
from scar.plan.granted import aloud, grants
from scar.report import Report, Style

READ = {"Sid": "ReadInputs", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/in/*"}
WRITE = {
    "Sid": "WriteOutputs",
    "Effect": "Allow",
    "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
    "Resource": ["arn:aws:s3:::photos/out/*", "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/cow:*"],
}


def role(*statements: object) -> Role:
    return Role("scar-cow", "cow", "{}", canonical({"Version": "2012-10-17", "Statement": statements}), ())


def shown(plan: Plan, *, verbose: bool = False, width: int = 80) -> str:
    out = io.StringIO()
    show(Report(Style(width=width), out, io.StringIO()), Planned("cow", plan, ()), verbose=verbose, sizes=False)
    return out.getvalue()


def test_a_new_role_is_told_with_every_statement_and_a_changed_one_with_what_differs() -> None:
    made = diff([role(READ, WRITE)], {})
    assert [(grant.who, grant.name, grant.what) for grant in grants(made)] == [
        ("role scar-cow", "ReadInputs", "s3:GetObject on photos/in/*"),
        (
            "role scar-cow",
            "WriteOutputs",
            "s3:PutObject, s3:AbortMultipartUpload on photos/out/*, log-group:/aws/lambda/cow:*",
        ),
    ]
    changed = diff([role(READ, WRITE)], {role(READ).id: role(READ)})
    assert [grant.name for grant in grants(changed)] == ["WriteOutputs"]
    assert grants(diff([role(READ)], {role(READ).id: role(READ)})) == ()
    assert grants(diff([], {role(READ).id: role(READ)})) == ()


def test_whoever_may_invoke_is_told_and_what_is_public_as_long_as_it_is() -> None:
    permission = InvokePermission("cow", "photos", "arn:aws:s3:::photos", "123456789012")
    url = FunctionUrl("cow", auth="none")
    plan = diff([permission, url], {url.id: url})
    (grant,) = grants(plan)
    assert (grant.who, grant.what) == ("bucket photos", "lambda:InvokeFunction on cow")
    (said,) = aloud(plan)
    assert "public: anyone on the internet can run it" in said
    assert aloud(diff([FunctionUrl("cow", auth="iam")], {})) == ()
    assert aloud(diff([], {url.id: url})) == ()
    told = document("123456789012", "eu-west-1", [Planned("cow", plan, ())], sizes=False)
    assert told["public"] == [{"function": "cow", "what": said}]
    assert told["permissions"][0]["actions"] == ("lambda:InvokeFunction",)
    assert told["unchanged"] == [{"function": "cow", "kind": "function url", "name": "cow"}]


def test_a_plan_fits_its_width_and_names_what_stays_when_asked() -> None:
    url = FunctionUrl("cow", auth="none")
    plan = diff([role(READ, WRITE), url], {url.id: url})
    text = shown(plan)
    assert max(map(len, text.splitlines())) <= 80
    assert "  role scar-cow may:\n    s3:GetObject on photos/in/*\n" in text
    assert "  ! function url cow: public" in text
    assert "  1 thing as it is (-v lists them)" in text
    assert "    = function url cow" in shown(plan, verbose=True)
