"""`python -m scar` and the `scar` command."""

import sys


def main() -> None:
    from scar.cli import main as run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
