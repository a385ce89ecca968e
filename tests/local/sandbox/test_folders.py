"""Folders by digest: however many want one at once, it is made once, and nobody waits for those who have it already."""

from __future__ import annotations

import threading
from pathlib import Path

from scar.local.folders import DigestFolders

NAME = "0" * 64


def test_all_who_want_a_folder_at_once_have_it_at_once(tmp_path: Path) -> None:
    """LO7, AP8: a sandbox keeps its folder locked for as long as it lives; those that start beside it must not wait for its end."""
    folders, made, together = DigestFolders(tmp_path), [], threading.Barrier(16, timeout=20)

    def make(folder: Path) -> int:
        made.append(folder)
        return 1

    all_have_it = []

    def use() -> None:
        together.wait()
        with folders.use(NAME, make):
            together.wait()  # nobody leaves before everybody is in
            all_have_it.append(True)

    threads = [threading.Thread(target=use, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(all_have_it), len(made)) == (16, 1)
