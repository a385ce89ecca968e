"""For every test: Ctrl-C counts, whoever started pytest. A shell's background job ignores it, and so would every command that a test starts."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
