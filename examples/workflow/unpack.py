#!/usr/bin/env python3
"""First step: take a ZIP file apart. Every file of it is published by itself, and starts a run of its own in the next step."""

import os
import sys
import zipfile
from pathlib import Path

MOST_BYTES = 64 << 20  # of all files together, unpacked

source, out = Path(os.environ["INPUT_FILE_PATH"]), Path(os.environ["TMP_OUTPUT_DIR"])
with zipfile.ZipFile(source) as archive:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if sum(member.file_size for member in members) > MOST_BYTES:
        sys.exit(f"{source.name} holds more than {MOST_BYTES} bytes")
    for member in members:
        name = Path(member.filename).name  # folders of the archive are left out
        (out / name).write_bytes(archive.read(member))
        print(f"{source.name}: {name}, {member.file_size} bytes")
