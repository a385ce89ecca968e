"""How do results get into the pages of docs/? What stands between two marks is made of `results/`; nobody types a number.

    python benchmarks/page.py        writes them anew

`<!-- results: ITEM -->` … `<!-- end -->` holds an item's table with its pictures, and `<!-- machine -->` … `<!-- end -->` what all was measured on.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = tuple(ROOT / "docs" / "explanation" / name for name in ("performance.md", "where-the-time-goes.md"))
PICTURES = ROOT / "docs" / "pictures" / "benchmarks"
_PART = re.compile(r"(<!-- (results|machine)(?:: ([\w-]+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def write_all() -> None:
    """Pages and pictures as the results are now."""
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.glob("*.svg"):
        old.unlink()
    for picture in sorted(RESULTS.glob("*.svg")):
        shutil.copy(picture, PICTURES / picture.name)
    for page in PAGES:
        page.write_text(generated(page.read_text()))


def generated(text: str) -> str:
    """The same page with what its marks ask for."""

    def part(found: re.Match[str]) -> str:
        inside = _machine() if found[2] == "machine" else _item(found[3])
        return f"{found[1]}\n{inside}\n\n{found[4]}"

    return _PART.sub(part, text)


def _item(name: str) -> str:
    if not (RESULTS / f"{name}.json").exists():
        return "*Not measured yet.*"
    document = _read(name)
    machine = document["machine"]
    pictures = [f"![{one['title']}](../pictures/benchmarks/{one['name']}.svg)" for one in document.get("growths", ())]
    took = f"Took {document['seconds']:.0f} s on {machine['date']}" if "seconds" in document else machine["date"]
    return "\n\n".join(
        [
            (RESULTS / f"{name}.md").read_text().rstrip("\n"),
            *([" ".join(pictures)] if pictures else []),
            f"*{took}; load {machine['load']} at the end; versions and single numbers: `benchmarks/results/{name}.json`.*",
        ]
    )


def _machine() -> str:
    """Of the item that was measured last, and the versions of all."""
    documents = sorted(
        (_read(path.stem) for path in RESULTS.glob("*.json")), key=lambda one: str(one["machine"]["date"])
    )
    versions: dict[str, str] = {}
    for document in documents:
        versions |= document.get("versions", {})
    last = next((one["machine"] for one in reversed(documents) if "system" in one["machine"]), documents[-1]["machine"])
    about = f"{last['cpus']} cores ({last['machine']})"
    if "system" in last:
        about = f"{about} of a virtual machine with {last['memory_gib']} GiB, {last['system']}, Linux {last['kernel']}"
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Machine: {about}, Python {last['python']}. Versions: {told}."


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


if __name__ == "__main__":
    write_all()
