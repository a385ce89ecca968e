"""How fast is SCAR, side by side with its peers, as ratios of one run?

    python benchmarks/run.py [--quick] [--results FOLDER] [ITEM …]        all items, or those that are named

Each item writes its table, numbers, and pictures of growth: ITEM.md, ITEM.json and ITEM-….svg in benchmarks/results. What stands between marks in
docs/explanation is made of them. `--quick` shows that items work, on sizes that say nothing about speed, and writes only where `--results` says.
An item that fails is told at the end, by exit status 1, and the others still run. Everything happens on this machine; every loop is bounded.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent
# An item is a module here whose `measure(Size)` answers a Result.
ITEMS = {
    "start-up": "startup",
    "control-plane": "control",
    "agent": "agent",
    "outputs": "outputs",
    "latency": "latency",
    "timeline": "timeline",
    "transfers": "transfers",
    "images": "images",
    "batch": "batch",
    "gang": "gang",
    "bundle": "bundle",
}


def alone(*items: str) -> None:
    """What an item's own file does when it is run: the same command, of this item."""
    sys.exit(main([*items, *sys.argv[1:]]))


def main(argv: list[str] | None = None) -> int:
    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "faas-supervisor"), str(HERE)]
    from figures import RESULTS
    from surroundings import Size

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # items put away what they have started
    words = argparse.ArgumentParser(description="SCAR beside its peers.")
    words.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(ITEMS))
    words.add_argument("--quick", action="store_true", help="small sizes: does it work?")
    words.add_argument("--results", type=Path, help="write to this folder")
    args = words.parse_args(argv)
    if unknown := set(args.items).difference(ITEMS):
        words.error(f"no item is called {', '.join(sorted(unknown))}; there are {', '.join(ITEMS)}")
    results = args.results or (None if args.quick else RESULTS)
    failed = [name for name in args.items or ITEMS if not _item(name, Size(quick=args.quick), results)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _item(name: str, size: object, results: Path | None) -> bool:
    import page
    from figures import RESULTS, write

    print(f"{name} …", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        result = importlib.import_module(ITEMS[name]).measure(size)
        seconds = time.perf_counter() - started
        if results is not None:
            write(name, result, seconds, results)
        if results == RESULTS:
            page.write_all()  # after each, so that a run that is cut off leaves pages that are true
    except Exception:
        traceback.print_exc()
        print(f"{name}: FAILED after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        return False
    print(f"{result.table}\n{name}: {seconds:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
