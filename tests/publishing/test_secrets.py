"""What nobody may read: it is in no output, no file of the build, no command line and no error, whatever happens."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bundle.by_hand import Owner, open_sealed

from publishing import meddling
from publishing.conftest import Meet
from publishing.meddling import ALWAYS, STEPS, is_action
from publishing.site import Site
from publishing.trying import show_chain
from xenkiln.bundle.parts import Secret, make_secret
from xenkiln.commands import bundle, cloud, instances, keypair, prune, register, upload
from xenkiln.errors import XenkilnError
from xenkiln.publishing import bundling
from xenkiln.publishing.subject import ROLES
from xenkiln.system.layout import PROJECT

LIMIT_SECONDS = 120
USER_DATA = "#!/bin/sh\necho {{ word }}\n"


@dataclass
class Vault:
    """Every secret of a site, in every form in which it could be written."""

    site: Site
    bundles: list[Secret] = field(default_factory=list)

    def list_forms(self) -> Iterator[bytes]:
        account = self.site.server.account
        yield account.secret.encode()
        yield base64.b64encode(account.secret.encode())
        credentials, keys = self.site.server.folder / "credentials", self.site.records.folder.parent / "keys"
        for path in (*credentials.glob("*-pk.pem"), *keys.glob("*.pem")):
            lines = [line for line in path.read_bytes().splitlines() if not line.startswith(b"-----")]
            yield from (line for line in lines if len(line) > 40)
        for secret in self.bundles:
            for value in (secret.key, secret.iv):
                yield from (value, value.hex().encode(), value.hex().upper().encode(), base64.b64encode(value)[:-2])

    def learn(self) -> dict[str, Secret]:
        """Keys and ivs of the bundles that the cloud has, by the prefix of their names: opened as the user can."""
        folder = self.site.server.folder / "credentials"
        (key_file,), (certificate,) = folder.glob("euca2-*-pk.pem"), folder.glob("euca2-*-cert.pem")
        owner, found = Owner(key_file, certificate), {}
        for name in self.site.target.store.list_objects("images", ""):
            if name.endswith(".manifest.xml"):
                manifest = self.site.target.store.get("images", name, 1 << 20)
                values = [open_sealed(manifest, f"user_encrypted_{what}", owner) for what in ("key", "iv")]
                found[name.partition("-")[0]] = Secret(*map(bytes.fromhex, values))
        self.bundles += found.values()
        return found

    def check_kept(self, path: Path) -> Secret:
        """The key and iv of a stream that goes on; the file has nothing else that is secret, and is its owner's."""
        assert path.stat().st_mode & 0o777 == 0o600
        text = path.read_text()
        kept = json.loads(text)
        assert kept.keys() == {"bundle", "key", "iv"}
        secret = Secret(bytes.fromhex(kept["key"]), bytes.fromhex(kept["iv"]))
        self.check(text.replace(kept["key"], "").replace(kept["iv"], ""), path)
        return secret

    def check(self, text: str | bytes, where: object) -> None:
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        found = [form for form in self.list_forms() if form in data]
        assert not found, f"{found[0]!r} in {where}"

    def check_files(self, allowed: Callable[[Path], bool]) -> int:
        """Everything below the build's folder; how many files were allowed to have a secret, and had."""
        build, count = Path(os.environ["XENKILN_BUILD"]), 0
        for path in build.rglob("*"):
            if path.is_file() and not path.is_symlink():
                if allowed(path):
                    if is_kept_secret(path):
                        self.check_kept(path)
                    assert path.stat().st_mode & 0o777 == 0o600
                    count += 1
                else:
                    self.check(path.read_bytes(), path)
        return count


@pytest.fixture
def guard(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Vault, meddling.Meddler]]:
    """Returns start(profile): a site, and a vault that learns every bundle's key."""

    def start(profile: str) -> tuple[Vault, meddling.Meddler]:
        site, meddler = meet(profile, files=ROLES)
        vault = Vault(site)

        def make() -> Secret:
            vault.bundles.append(make_secret())
            return vault.bundles[-1]

        monkeypatch.setattr(bundling, "make_secret", make)
        return vault, meddler

    return start


Guard = Callable[[str], tuple[Vault, meddling.Meddler]]


def is_private_key(path: Path) -> bool:
    return path.parent.name == "keys" and path.suffix == ".pem"


def is_kept_secret(path: Path) -> bool:
    return path.suffix == ".secret"


def list_steps(site: Site) -> list[Callable[[], object]]:
    by_role = [lambda command=command, role=role: command.run(site.subject, site.cloud, role)
               for command in (bundle, upload, register) for role in ROLES]  # fmt: skip
    return [*by_role, site.publish, lambda: keypair.run(site.cloud), site.launch, site.console,
            lambda: instances.run(site.cloud), lambda: cloud.run(site.cloud), site.terminate,
            lambda: prune.run(site.cloud), site.deregister]  # fmt: skip


def test_nothing_is_told_when_all_goes_well(guard: Guard, capfd: pytest.CaptureFixture[str]) -> None:
    vault, _ = guard("4.4")
    steps = list_steps(vault.site)
    for step in steps[:-1]:
        step()
        vault.check_files(is_private_key)
    assert len(vault.bundles) >= len(ROLES)
    assert vault.check_files(is_private_key) == 1
    steps[-1]()
    # And in one stream.
    vault.site.publish()
    assert len(vault.bundles) == 2 * len(ROLES)
    vault.check_files(is_private_key)
    captured = capfd.readouterr()
    assert "publish:tiny" in captured.out
    vault.check(captured.out + captured.err, "the output")


ACTIONS = ("RunInstances", "DescribeInstances", "GetConsoleOutput", "TerminateInstances", "CreateKeyPair",
           "DescribeKeyPairs", "DeregisterImage")  # fmt: skip
ACTS = (meddling.cut_in_answer, meddling.refuse("SignatureDoesNotMatch", 403, "no&#10;StringToSign"),
        meddling.say(b"<html>", 200), meddling.cut_after_body)  # fmt: skip


def test_nothing_is_told_when_all_goes_wrong(guard: Guard, capfd: pytest.CaptureFixture[str]) -> None:
    # The release that is spoken to in addresses: an error may name them.
    vault, meddler = guard("1.4")
    site = vault.site
    failures = 0
    for step in (site.publish, lambda: keypair.run(site.cloud), site.launch, site.console, site.terminate,
                 site.deregister):  # fmt: skip
        for act in ACTS:
            for judge in (*STEPS, *map(is_action, ACTIONS)):
                meddler.meddle(judge, act, ALWAYS)
            failures += check_failure(vault, step)
            vault.check_files(lambda path: is_private_key(path) or is_kept_secret(path))
            meddler.rules.clear()
        check_failure(vault, step)
    assert failures > 12
    assert vault.bundles
    captured = capfd.readouterr()
    vault.check(captured.out + captured.err, "the output")


def check_failure(vault: Vault, step: Callable[[], object]) -> bool:
    """Whether it failed, and told nothing in doing so."""
    try:
        step()
    except XenkilnError as error:
        vault.check(show_chain(error), "the error")
        return True
    return False


def test_a_stream_that_is_not_finished_keeps_its_key_for_its_owner_alone(guard: Guard) -> None:
    vault, meddler = guard("4.4")
    meddler.meddle(is_action("RegisterImage"), meddling.refuse("Denied", 403))
    assert check_failure(vault, vault.site.publish)
    assert vault.check_files(is_kept_secret) == 1
    (kept,) = vault.site.records.folder.glob("*.secret")
    assert vault.bundles[0].key.hex() in kept.read_text()
    vault.site.publish()
    assert vault.check_files(is_kept_secret) == 0


@contextmanager
def watched(process: subprocess.Popen[bytes], seen: set[bytes]) -> Iterator[None]:
    """Collect the command lines of a process and of all that it starts, until it ends."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) == process.pid:
                    seen.add((path / "cmdline").read_bytes())
            except OSError:
                continue
        time.sleep(0.05)
    yield


def test_doit_tells_nothing_either(meet: Meet, tmp_path: Path) -> None:
    site, meddler = meet("3.4", files=ROLES)
    recipes = tmp_path / "recipes"
    shutil.copytree(PROJECT / "recipes" / "images", recipes / "images")
    for kind in ("clouds", "prebuilt"):
        (recipes / kind).mkdir()
    (tmp_path / "mine.yaml").rename(recipes / "clouds" / "mine.yaml")
    (recipes / "prebuilt" / "start.sh").write_text(USER_DATA)
    (recipes / "prebuilt" / "old.yaml").write_text(
        f"summary: Made elsewhere\nkernel: {site.images}/vmlinuz\nramdisk: {site.images}/initrd.img\n"
        f"root: {site.images}/root.img\nlaunch: {{user_data: start.sh, variables: {{word: password}}}}\n")
    vault = Vault(site)
    # The last one takes the manifests away, which have the keys that are looked for.
    verbs = ["bundle", "upload", "register", "publish", "launch", "terminate"]
    run_doit(recipes, ["keypair:mine", *(f"{verb}:old" for verb in verbs)], vault, tmp_path)
    assert len(set(vault.bundles)) == len(ROLES)
    assert "deregister:old" in run_doit(recipes, ["deregister:old"], vault, tmp_path)
    meddler.meddle(meddling.is_part, meddling.refuse("SignatureDoesNotMatch", 403), ALWAYS)
    output = run_doit(recipes, ["publish:old"], vault, tmp_path, code=1)
    assert "check the access key" in output
    assert "Traceback" not in output
    (path,) = vault.site.records.folder.parent.rglob("*.secret")
    kept = vault.check_kept(path)
    assert kept in vault.bundles
    # In one stream, which goes on with the key that was kept: it is that of its own bundle.
    meddler.rules.clear()
    run_doit(recipes, ["publish:old"], vault, tmp_path)
    assert vault.learn()["vmlinuz"] == kept
    assert len(set(vault.bundles)) == 2 * len(ROLES)


def run_doit(recipes: Path, words: list[str], vault: Vault, folder: Path, code: int = 0) -> str:
    """Its output, in which there is no secret; nor is there one in a command line, or in a file that it leaves.

    Those of the bundles that it has made and not finished are in their files, and those of the others at the cloud.
    """
    seen: set[bytes] = set()
    environment = {**os.environ, "XENKILN_RECIPES": str(recipes / "images")}
    with (folder / "output").open("wb") as output, subprocess.Popen(
        [sys.executable, "-m", "doit", "-v", "2", *words, "cloud=mine"], cwd=PROJECT, env=environment, stdout=output,
        stderr=output, start_new_session=True,
    ) as process, watched(process, seen):  # fmt: skip
        pass
    text = (folder / "output").read_text()
    assert process.returncode == code, text
    assert any(b"doit" in line for line in seen)
    vault.learn()
    vault.bundles += [vault.check_kept(path) for path in vault.site.records.folder.parent.rglob("*.secret")]
    for line in seen:
        vault.check(line, "a command line")
    vault.check(text, "doit's output")
    vault.check((vault.site.server.folder / "requests.log").read_bytes(), "the cloud's log")
    vault.check_files(lambda path: is_private_key(path) or is_kept_secret(path))
    return text
