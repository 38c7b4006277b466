"""Steps common to all families: accounts, ssh keys, the recipe's files and scripts."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from xenkiln.configuration.accounts import Account, AccountFiles, add_account, enable_shadow, set_password
from xenkiln.errors import BuildError
from xenkiln.model.configure import Configure, ScriptEntry
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do, Mount, Run, Step, Write
from xenkiln.system.templates import render_text

PUBLIC_KEY = re.compile(r"(^|\s)(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+(\s|$)")
"""sshd(8), AUTHORIZED_KEYS FILE FORMAT: options may come first."""
ACCOUNT_FILES = (("passwd", 0o644), ("shadow", 0o640), ("group", 0o644), ("gshadow", 0o640))
SCRIPT_FOLDER = "/run/xenkiln-scripts"
"""On the guest's /run, which is a tmpfs while scripts run: nothing of it reaches the image."""


def make_account_steps(configure: Configure, recipes: Path, password_hash: str, root: Path) -> list[Step]:
    """Shadow passwords, root's password, users with their homes, and everybody's ssh keys."""

    def change_accounts(context: Context) -> None:
        files = enable_shadow(_read_accounts(root), context.epoch)
        files = set_password(files, "root", password_hash)
        for user in configure.users:
            account = Account(user.name, user.uid, user.home or f"/home/{user.name}", user.shell,
                              user.password_hash, user.groups)  # fmt: skip
            files = add_account(files, account, context.epoch)
        _write_accounts(root, files)
        for user in configure.users:
            _make_home(root, user.home or f"/home/{user.name}", user.uid)

    names = ", ".join(["root", *(user.name for user in configure.users)])
    steps: list[Step] = [
        Do(f"enable shadow passwords and set the accounts {names}", change_accounts,
           writes=tuple(root / "etc" / name for name, _ in ACCOUNT_FILES)),
    ]  # fmt: skip
    root_keys = [*configure.ssh_keys, *_read_keys(configure, recipes)]
    owners = [("/root", 0, tuple(root_keys))]
    owners += [(user.home or f"/home/{user.name}", user.uid, user.ssh_keys) for user in configure.users]
    for home, uid, keys in owners:
        if keys:
            steps += _make_key_steps(home, uid, keys, root)
    return steps


def make_file_steps(configure: Configure, recipes: Path, root: Path) -> list[Step]:
    """The recipe's files; templates see configure.variables and the hostname."""
    values = {"hostname": configure.hostname, **configure.variables}
    steps: list[Step] = []
    for entry in configure.files:
        content: str | bytes = entry.content or ""
        if entry.source is not None:
            content = (recipes / entry.source).read_bytes()
        elif entry.template is not None:
            text = _read_text(recipes, entry.template)
            content = render_text(text, values, place=entry.template)
        steps.append(Write(entry.path, content, int(entry.mode, 8), entry.owner, entry.group, root))
    return steps


def make_script_steps(configure: Configure, recipes: Path, root: Path) -> list[Step]:
    """Each script put into the guest's /run and run there by the interpreter it names."""
    if not configure.scripts:
        return []
    steps: list[Step] = [Mount("guest", root)]
    for number, script in enumerate(configure.scripts, start=1):
        name = Path(script.source).name if script.source else f"script {number}"
        path = f"{SCRIPT_FOLDER}/{number:02d}"
        steps.append(Write(path, _read_script(script, recipes), 0o700, root=root))
        steps.append(Run(f"run {name} inside the image", (path,), root=root))
    return steps


def list_sources(configure: Configure, recipes: Path) -> list[Path]:
    """Every local file that these steps read."""
    names = [entry.source or entry.template for entry in configure.files]
    names += [script.source for script in configure.scripts]
    names += list(configure.ssh_key_files)
    return [recipes / name for name in names if name]


def _read_script(script: ScriptEntry, recipes: Path) -> str:
    if script.source is None:
        return script.content or ""
    text = _read_text(recipes, script.source)
    if not text.startswith("#!/"):
        raise BuildError("the first line must name the interpreter: #!/bin/sh", place=script.source)
    return text


def _read_keys(configure: Configure, recipes: Path) -> list[str]:
    keys: list[str] = []
    for name in configure.ssh_key_files:
        lines = [line.strip() for line in _read_text(recipes, name).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if any("PRIVATE KEY" in line or line.startswith("PuTTY-User-Key") for line in found):
            raise BuildError("this is a private key; the public one (.pub) belongs here", place=name)
        if not found or not all(PUBLIC_KEY.search(line) for line in found):
            raise BuildError("this is no file of ssh public keys", place=name,
                             next_step="give the .pub file that ssh-keygen made")  # fmt: skip
        keys += found
    return keys


def _read_text(recipes: Path, name: str) -> str:
    try:
        return (recipes / name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BuildError("this is not text (UTF-8)", place=name) from error


def _make_key_steps(home: str, uid: int, keys: tuple[str, ...], root: Path) -> list[Step]:
    def make_folder(context: Context) -> None:
        folder = resolve_in_root(root, home) / ".ssh"
        if folder.is_symlink():
            raise BuildError("is a link in the image, a folder was to be made there", place=f"{home}/.ssh")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, uid, uid)

    content = "".join(f"{key}\n" for key in keys)
    return [
        Do(f"make {home}/.ssh", make_folder),
        Write(f"{home}/.ssh/authorized_keys", content, 0o600, uid, uid, root),
    ]


def _read_accounts(root: Path) -> AccountFiles:
    texts = []
    for name, _ in ACCOUNT_FILES:
        path = resolve_in_root(root, f"/etc/{name}")
        texts.append(path.read_text(encoding="utf-8") if path.is_file() else "")
    if not texts[0]:
        raise BuildError("the installed packages left no /etc/passwd", next_step="install the base packages")
    return AccountFiles(*texts)


def _write_accounts(root: Path, files: AccountFiles) -> None:
    for name, mode in ACCOUNT_FILES:
        path = resolve_in_root(root, f"/etc/{name}")
        group = path.stat().st_gid if path.exists() else 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(getattr(files, name), encoding="utf-8")
        # Owned by root and, as the distribution had it, group shadow.
        os.chown(path, 0, group)
        path.chmod(mode if group else mode & ~0o077 if "shadow" in name else mode)


def _make_home(root: Path, home: str, uid: int) -> None:
    """A home folder with what /etc/skel has, all owned by the user; one that is there is left as it is."""
    target, skeleton = resolve_in_root(root, home), resolve_in_root(root, "/etc/skel")
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if skeleton.is_dir():
        shutil.copytree(skeleton, target, symlinks=True)
    else:
        target.mkdir()
    target.chmod(0o755)
    for path in [target, *target.rglob("*")]:
        os.chown(path, uid, uid, follow_symlinks=False)
