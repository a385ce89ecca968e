"""The agent's first module in the bundle (`/opt/scar/app/__main__`); never imported here."""

import sys

from faassupervisor.__main__ import main

sys.exit(main())
