"""Clients of boto3 for a server on loopback, patience that costs no time, and images to send."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from xenkiln.clouds.calls import Patience
from xenkiln.clouds.ebs import upload_snapshot

BLOCK = 524288
IMPATIENT = Patience(tries=6, first_seconds=0.001, longest_seconds=0.004)
WORKERS = 4
TAGS = {"recipe": "tiny", "lock": "0123"}


def make_clients(endpoint: str) -> tuple[Any, Any]:
    """EBS and EC2; every trial is ours, none of them botocore's."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=20, read_timeout=20,
                    max_pool_connections=WORKERS)  # fmt: skip
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-west-1")
    ebs, ec2 = (session.client(name, endpoint_url=endpoint, config=config) for name in ("ebs", "ec2"))
    return ebs, ec2


def write_image(path: Path, size: int, extents: list[tuple[int, int]]) -> Path:
    """A sparse file with data in these places."""
    with path.open("wb") as stream:
        for start, length in extents:
            stream.seek(start)
            stream.write(os.urandom(length - 1) + b"x")
        stream.truncate(size)
    return path


def upload(clients: tuple[Any, Any], image: Path, tags: Mapping[str, str] = TAGS, workers: int = WORKERS) -> str:
    """As a stage would; the state lies beside the image."""
    ebs, ec2 = clients
    return upload_snapshot(ebs, ec2, image, description="an image", tags=tags, state=get_state(image),
                           workers=workers, tell=lambda _: None, patience=IMPATIENT)  # fmt: skip


def get_state(image: Path) -> Path:
    return image.with_suffix(".upload.json")


def list_blocks(image: Path) -> dict[int, bytes]:
    """Blocks of an image that hold anything, found without looking for holes."""
    found: dict[int, bytes] = {}
    with image.open("rb") as stream:
        for index in itertools.count():
            block = stream.read(BLOCK)
            if not block:
                return found
            if block != bytes(len(block)):
                found[index] = block.ljust(BLOCK, b"\0")
    raise AssertionError
