"""The shortest program that puts or gets many files with a library: what `transfers.py` holds the commands against.

transfer_program.py LIBRARY put|get URL BUCKET PREFIX FOLDER
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def with_boto3(verb: str, url: str, bucket: str, prefix: str, folder: Path) -> None:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    s3 = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=32))
    if verb == "put":
        jobs = [(str(path), f"{prefix}/{path.name}") for path in sorted(folder.iterdir())]
    else:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        jobs = [(str(folder / Path(one["Key"]).name), one["Key"]) for page in pages for one in page["Contents"]]
    config = TransferConfig(max_concurrency=16, use_threads=len(jobs) == 1)

    def move(job: tuple[str, str]) -> None:
        if verb == "put":
            s3.upload_file(job[0], bucket, job[1], Config=config)
        else:
            s3.download_file(bucket, job[1], job[0], Config=config)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(move, jobs))


def with_obstore(verb: str, url: str, bucket: str, prefix: str, folder: Path) -> None:
    import obstore
    from obstore.store import S3Store

    store = S3Store(bucket, endpoint=url, client_options={"allow_http": True}, virtual_hosted_style_request=False)
    most = asyncio.Semaphore(32)

    async def put(path: Path) -> None:
        async with most:
            await obstore.put_async(store, f"{prefix}/{path.name}", path, max_concurrency=16)

    async def get(key: str) -> None:
        async with most:
            answer = await obstore.get_async(store, key)
            with (folder / Path(key).name).open("wb") as file:
                async for piece in answer.stream(min_chunk_size=1 << 20):
                    file.write(piece)

    async def everything() -> None:
        jobs: Any
        if verb == "put":
            jobs = [put(path) for path in sorted(folder.iterdir())]
        else:
            jobs = [get(str(one["path"])) for page in obstore.list(store, f"{prefix}/") for one in page]
        await asyncio.gather(*jobs)

    asyncio.run(everything())
    os._exit(0)  # its threads sometimes abort a Python that goes down (obstore 0.12)


def main() -> None:
    library, verb, url, bucket, prefix, folder = sys.argv[1:]
    (with_boto3 if library == "boto3" else with_obstore)(verb, url, bucket, prefix, Path(folder))


if __name__ == "__main__":
    main()
