"""The same against moto's server, an independent Amazon; it checks little, so only what it keeps is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from clouds.amazon.reading import verify_snapshot
from clouds.amazon.test_ebs_kill import run_until_held, wait_for_written
from clouds.amazon.uploading import (
    BLOCK,
    IMPATIENT,
    TAGS,
    WORKERS,
    get_state,
    list_blocks,
    make_clients,
    upload,
    write_image,
)
from xenkiln.clouds.amis import Ami, deregister_ami, find_ami, register_ami
from xenkiln.errors import CloudError


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def moto_clients(endpoint: str) -> tuple[Any, Any]:
    return make_clients(endpoint)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "root.img", 7 * BLOCK + 5, [(BLOCK - 5, 10), (4 * BLOCK, 3 * BLOCK + 5)])


def read_back(ebs: Any, snapshot_id: str) -> dict[int, bytes]:
    return {
        block["BlockIndex"]: ebs.get_snapshot_block(
            SnapshotId=snapshot_id, BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"]
        )["BlockData"].read()
        for block in ebs.list_snapshot_blocks(SnapshotId=snapshot_id)["Blocks"]
    }


def test_an_image_comes_back_block_for_block(moto_clients: tuple[Any, Any], image: Path) -> None:
    ebs, ec2 = moto_clients
    snapshot_id = upload(moto_clients, image)
    assert read_back(ebs, snapshot_id) == list_blocks(image)
    verify_snapshot(ebs, snapshot_id, image, workers=WORKERS, tell=lambda _: None, patience=IMPATIENT)
    (described,) = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    assert {tag["Key"]: tag["Value"] for tag in described["Tags"]} == TAGS | {"made-by": "xenkiln"}
    assert upload(moto_clients, image) == snapshot_id


def test_a_killed_upload_is_finished_by_the_next(endpoint: str, moto_clients: tuple[Any, Any], tmp_path: Path) -> None:
    image = write_image(tmp_path / "root.img", 8 * BLOCK, [(0, 8 * BLOCK)])
    with run_until_held(endpoint, image, "put_snapshot_block", 3, "before"):
        state = wait_for_written(image, 3)
    snapshot_id = upload(moto_clients, image)
    assert snapshot_id == state["snapshot_id"]
    assert read_back(moto_clients[0], snapshot_id) == list_blocks(image)


def test_an_image_is_registered_once_and_taken_away_with_its_snapshot(
    moto_clients: tuple[Any, Any], image: Path
) -> None:
    _, ec2 = moto_clients
    snapshot_id = upload(moto_clients, image)
    ami = Ami("tiny 0123", "an image", "x86_64", "hvm", snapshot_id, tags=TAGS)
    ami_id = register_ami(ec2, ami, tell=lambda _: None, patience=IMPATIENT)
    assert find_ami(ec2, ami.name, TAGS, IMPATIENT) == ami_id
    assert register_ami(ec2, ami, tell=lambda _: None, patience=IMPATIENT) == ami_id
    # moto forgets what an image is made of.
    gone = deregister_ami(ec2, ami_id, snapshot_id=snapshot_id, tell=lambda _: None, patience=IMPATIENT)
    assert gone == [snapshot_id]
    assert find_ami(ec2, ami.name, TAGS, IMPATIENT) is None
    assert deregister_ami(ec2, ami_id, tell=lambda _: None, patience=IMPATIENT) == []
    with pytest.raises(ec2.exceptions.ClientError, match=r"InvalidSnapshot\.NotFound"):
        ec2.describe_snapshots(SnapshotIds=[snapshot_id])


def test_an_endpoint_where_nobody_answers_is_named(image: Path) -> None:
    clients = make_clients("http://127.0.0.1:9")
    with pytest.raises(CloudError, match=r'endpoint URL: "http://127.0.0.1:9/snapshots"[\s\S]*check the network'):
        upload(clients, image)
    assert get_state(image).exists()
