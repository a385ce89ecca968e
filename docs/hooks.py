"""What of the repository is on the site besides docs/: the examples and a few pages of its root; and how links find them.

Pages link each other as files of the repository, so that they can be read there too. On the site docs/ is the root, examples/ lies beside its
folders, and the pages of the repository's root are in project/.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PROJECT = {
    "README.md": "project/about.md",
    "CHANGELOG.md": "project/changes.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "LICENSE": "project/LICENSE.txt",
}
SHOWN = {".md", ".yaml", ".py", ".sh", ".awk", ".c", ".txt", ".csv", ".json", ".png", ".svg"}
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_config(config: Any) -> Any:
    """Lists that grow by a file are not written down in mkdocs.yml: examples and decisions."""
    examples = [{"All examples": "examples/README.md"}]
    examples += [f"examples/{page.parent.name}/README.md" for page in sorted(ROOT.glob("examples/*/README.md"))]
    decisions = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    why = ["decisions/README.md", *(f"decisions/{page.name}" for page in decisions)]
    project = [place for place in PROJECT.values() if place.endswith(".md")]
    config.nav = [*config.nav, {"Examples": examples}, {"Project": [*project, {"Decisions": why}]}]
    return config


def on_files(files: Files, config: Any) -> Files:
    for place, path in _elsewhere():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link to a file of the repository becomes one to its place on the site."""
    here = _in_repository(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), found[2]))
        place = _on_site(target + "/README.md" if (ROOT / target).is_dir() else target)
        return found[1] + posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)


def _elsewhere() -> list[tuple[str, Path]]:
    shown = [path for path in sorted((ROOT / "examples").rglob("*")) if path.is_file() and path.suffix in SHOWN]
    return [
        *((place, ROOT / name) for name, place in PROJECT.items() if (ROOT / name).exists()),
        *((str(path.relative_to(ROOT)), path) for path in shown),
    ]


def _in_repository(place: str) -> str:
    if place.startswith("examples/"):
        return place
    return next((name for name, known in PROJECT.items() if known == place), f"docs/{place}")


def _on_site(target: str) -> str:
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return PROJECT.get(target, target)
