"""The words about what may be done."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from scar.arguments.parser import Command, Verbs


def add(words: Verbs) -> None:
    iam = words.add(
        "iam",
        "print the IAM policies of a file's functions, or of the person who runs SCAR",
        "scar iam -f function.yaml --account 123456789012 --region eu-west-1\n"
        "scar iam -f function.yaml -n cow --role job --account 123456789012 --region eu-west-1\n"
        "scar iam --operator --for plan,init,rm --account 123456789012 --region eu-west-1 > operator.json",
        _iam,
    )
    iam.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the definition file")
    iam.add_argument("-n", "--name", help="only this function of the file")
    iam.add_argument("--account", type=_account, metavar="NUMBER", help="as if in this account, which is not asked")
    which = iam.add_mutually_exclusive_group()
    which.add_argument(
        "--role",
        choices=("lambda", "job", "execution", "machines"),
        metavar="KIND",
        help="only the policy of one role, as `aws iam create-policy` takes it: lambda, job, execution or machines",
    )
    which.add_argument(
        "--operator",
        action="store_true",
        help="the policy that whoever runs SCAR needs: for the functions of the file, or without a file for any",
    )
    iam.add_argument("--trust", action="store_true", help="who may assume the role, instead of what it may do")
    iam.add_argument(
        "--for",
        dest="commands",
        metavar="COMMANDS",
        help="with --operator: only for these commands, as in init,rm; rm-data is for rm --delete-data, which no other has",
    )
    iam.add_argument(
        "--part", type=int, metavar="N", help="with --operator: the N-th of the policies into which IAM's limits cut it"
    )


def _account(text: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no account number: it has 12 digits")
    return text


def _iam() -> Command:
    from scar.commands.iam import iam

    return iam
