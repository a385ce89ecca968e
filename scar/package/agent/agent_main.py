"""The agent's first module in the bundle (`/opt/scar/app/__main__`); never imported here."""

import importlib
import sys

# By name, because the agent's modules are beside this file in the bundle only: to `scar` they are files to pack.
sys.exit(importlib.import_module("faassupervisor.__main__").main())
