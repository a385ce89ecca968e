"""The agent's front door: `python3 -I -S -B /opt/scar/app`. Reads arguments and environment once and chooses the door.

with AWS_LAMBDA_RUNTIME_API      serve Lambda's Runtime API (on_lambda)
--event -                        run once on the event from standard input (on_stdin)
with SCAR_TASK or AWS_BATCH_JOB_ID   run the one record that a Batch job was submitted for (on_batch)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from faassupervisor import environ, leaving, slim


def main() -> int:
    """The process's exit code. `app` is the directory this package lies in, wherever it was put."""
    leaving.ignore_nothing()
    app = Path(__file__).absolute().parent.parent
    try:
        surroundings = environ.read(sys.argv[1:], environ.found(os.environ), app)
    except environ.UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    slim.install()
    if surroundings.runtime_api:
        from faassupervisor import on_lambda

        return on_lambda.run(surroundings, surroundings.runtime_api)
    if surroundings.event_on_stdin:
        from faassupervisor import on_stdin

        return on_stdin.run(surroundings)
    if surroundings.in_job:
        from faassupervisor import on_batch

        return on_batch.run(surroundings)
    sys.stderr.write(f"{environ.USAGE}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
