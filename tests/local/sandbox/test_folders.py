"""Folders by digest: however many want one at once, it is made once, and nobody waits for those who have it already."""

from __future__ import annotations

import threading
from pathlib import Path

from scar.local.folders import DigestFolders

TIMES = 40  # one alone may go well by chance


def test_all_who_want_a_folder_at_once_have_it_at_once(tmp_path: Path) -> None:
    """LO7, AP8: a sandbox keeps its folder locked for as long as it lives; those that start beside it must not wait for its end."""
    folders, made, together = DigestFolders(tmp_path), list[str](), threading.Barrier(8, timeout=10)

    def make(folder: Path) -> int:
        made.append(folder.stem)
        return 1

    had = list[int]()

    def use() -> None:
        for number in range(TIMES):
            together.wait()
            with folders.use(f"{number:064x}", make):
                together.wait()  # nobody leaves before everybody is in
                had.append(number)

    threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(had), len(made)) == (8 * TIMES, TIMES)
