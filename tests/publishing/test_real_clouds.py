"""From the built tiny to a guest of real Xen that was put together from what the cloud was sent, as the README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit_runs import run_doit

from xenkiln.lab.cloud.control import find_cloud
from xenkiln.system.layout import PROJECT

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.lab]
CLOUDS = PROJECT / "build" / "lab" / "cloud"
WORDS = ("publish:tiny", "launch:tiny", "console:tiny", "terminate:tiny")


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The shipped recipes, tiny with user-data of its own, and a second cloud of the lab's, the oldest."""
    recipes = tmp_path / "recipes"
    shutil.copytree(PROJECT / "recipes", recipes)
    old = "summary: Old\ndialect: eucalyptus-1.4\nembedded: true\nbucket: images\n"
    (recipes / "clouds" / "old.yaml").write_text(old)
    (recipes / "images" / "hello.sh").write_text("#!/bin/sh\necho hello from {{ name }} at {{ cloud }} >/dev/hvc0\n")
    with (recipes / "images" / "tiny.yaml").open("a") as recipe:
        recipe.write("launch: {user_data: hello.sh}\n")
    found = {name: text for name, text in os.environ.items() if not name.startswith(("EC2_", "AWS_", "EUCA"))}
    yield found | {"XENKILN_RECIPES": str(recipes / "images")}
    run_doit("lab-stop")


def test_the_chain_of_the_readme_shows_a_guest_that_booted(env: dict[str, str]) -> None:
    run_doit("build:tiny", "build:lab-dom0", env=env)
    run_doit("keypair", env=env)
    said = run_doit(*WORDS[:3], env=env)
    assert "Linux version" in said
    assert "tiny: ready" in said
    instance = re.findall(r"launch:tiny  (i-\w+)", said)[0]
    assert re.search(rf"meta-data: fetched \d+ values and 1 ssh keys of instance {instance} from", said)
    check_login(said)
    assert f"{instance} has ended" in run_doit("terminate:tiny", env=env)
    assert "up to date" in run_doit("publish:tiny", env=env)
    run_doit("deregister:tiny", env=env)


def check_login(said: str) -> None:
    """The key pair's private key opens the guest, whose script has run."""
    port = re.findall(r"ssh 127\.0\.0\.1:(\d+)", said)[0]
    key = PROJECT / "build" / "clouds" / "lab" / "keys" / "xenkiln.pem"
    argv = ["ssh", "-i", str(key), "-p", port, "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no",
            "-o", "BatchMode=yes", "root@127.0.0.1", "cat", "/run/xenkiln/user-data"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "#!/bin/sh\necho hello from tiny at lab >/dev/hvc0\n", done.stderr


def test_the_oldest_release_boots_it_too(env: dict[str, str]) -> None:
    run_doit("build:tiny", "build:lab-dom0", env=env)
    said = run_doit(*WORDS, "cloud=old", env=env)
    assert "tiny: ready" in said
    assert re.search(r"terminate:tiny  i-\w+ has ended", said)
    run_doit("deregister:tiny", "cloud=old", env=env)
    run_doit("lab-stop", env=env)
    assert find_cloud(CLOUDS, "1.4") is None
