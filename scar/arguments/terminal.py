"""The words for the person at the terminal: completion, explanations."""

from __future__ import annotations

from scar.arguments.parser import Command, Verbs


def add(words: Verbs) -> None:
    explain = words.add(
        "explain",
        "tell why a run, a job or a function is stuck or failed, and what to do",
        "scar explain 1f2e3d4c-0000-4000-8000-000000000000\nscar explain cow\n"
        "scar explain -n cow 1f2e3d4c-0000-4000-8000-000000000001\nscar explain cow --object s3://my-bucket/in/a.png",
        _explain,
    )
    explain.add_argument(
        "id", metavar="ID", nargs="?", help="a job's id, a run's request id (with -n), or a function's name"
    )
    explain.add_argument("-n", "--name", help="the function that the run is of")
    explain.add_argument("--object", metavar="s3://BUCKET/KEY", help="why this object started no run of the function")

    completion = words.add(
        "completion",
        "print what makes a shell complete scar's words",
        'source <(scar completion bash)\nscar completion zsh > "${fpath[1]}/_scar"\n'
        "scar completion fish > ~/.config/fish/completions/scar.fish",
        _completion,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="bash|zsh|fish")


def _explain() -> Command:
    from scar.commands.explain import explain

    return explain


def _completion() -> Command:
    from scar.commands.completion import completion

    return completion
