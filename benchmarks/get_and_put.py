"""The least that boto3 can do for an event: get its object, put the same bytes. Large ones go by way of a file, as boto3 does it.

get_and_put.py FROM TO FOLDER        keys come on standard input, one a line; seconds go out
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import boto3

_WHOLE_BYTES = 8 << 20  # from here on boto3 moves objects in parts


def main() -> None:
    source, target, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    s3 = boto3.client("s3")
    for line in sys.stdin:
        key = line.strip()
        started = time.perf_counter()
        if int(key.rpartition("-")[2]) < _WHOLE_BYTES:
            s3.put_object(Bucket=target, Key=f"out/{key}", Body=s3.get_object(Bucket=source, Key=key)["Body"].read())
        else:
            path = folder / f"peer-{key}"
            s3.download_file(source, key, str(path))
            s3.upload_file(str(path), target, f"out/{key}")
            path.unlink()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
