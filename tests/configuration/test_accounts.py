"""passwd, shadow, group and gshadow: the same as pwconv and grpconv, whatever the packages left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.configuration.accounts import Account, AccountFiles, add_account, enable_shadow, set_password
from xenkiln.errors import BuildError
from xenkiln.system.commands import Runner

EPOCH = 1_700_000_000
DAY = str(EPOCH // 86400)
HASH = "$6$salt$hash"
ALICE = Account("alice", 1000, "/home/alice", "/bin/bash", HASH, ("adm", "sudo"))
EL5 = AccountFiles(
    passwd="root:$1$aaaa$bbbb:0:0:root:/root:/bin/bash\nbin:*:1:1:bin:/bin:/sbin/nologin\n",
    shadow="",
    group="root:x:0:root\nadm:x:4:root,daemon\nsudo:!:27:\n",
    gshadow="",
)

names = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
hashes = st.sampled_from(["x", "*", "!", "", HASH, "$1$abc$def"])
days = st.sampled_from(["", "0", "14000", "19000"])
line = st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=20)


def lists(row: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(row | line, max_size=5).map(lambda rows: "".join(f"{row}\n" for row in rows))


texts = st.builds(
    AccountFiles,
    passwd=lists(st.builds("{}:{}:1:1::/:/bin/sh".format, names, hashes)),
    shadow=lists(st.builds("{}:{}:{}:0:99999:7:::".format, names, hashes, days)),
    group=lists(st.builds("{}:{}:1:{}".format, names, hashes, names)),
    gshadow=lists(st.builds("{}:{}::{}".format, names, hashes, names)),
)


@given(texts)
def test_shadowing_twice_is_shadowing_once(files: AccountFiles) -> None:
    once = enable_shadow(files, EPOCH)
    assert enable_shadow(once, EPOCH) == once


@given(texts)
def test_no_hash_stays_where_everybody_reads_it(files: AccountFiles) -> None:
    shadowed = enable_shadow(files, EPOCH)
    for text in (shadowed.passwd, shadowed.group):
        assert all(line.split(":")[1] == "x" for line in text.split("\n")[:-1])


def list_names(text: str) -> set[str]:
    return {line.split(":")[0] for line in text.split("\n")[:-1]}


@given(texts)
def test_every_user_and_group_has_its_line_in_both_files(files: AccountFiles) -> None:
    shadowed = enable_shadow(files, EPOCH)
    for public, secret in ((shadowed.passwd, shadowed.shadow), (shadowed.group, shadowed.gshadow)):
        assert list_names(public) == list_names(secret)


@given(texts)
def test_damaged_files_are_refused_or_mended(files: AccountFiles) -> None:
    try:
        set_password(add_account(enable_shadow(files, EPOCH), ALICE, EPOCH), "alice", "!")
    except BuildError:
        return


def test_the_files_of_a_release_without_shadow() -> None:
    shadowed = enable_shadow(EL5, EPOCH)
    assert shadowed.passwd == "root:x:0:0:root:/root:/bin/bash\nbin:x:1:1:bin:/bin:/sbin/nologin\n"
    assert shadowed.shadow == f"root:$1$aaaa$bbbb:{DAY}:0:99999:7:::\nbin:*:{DAY}:0:99999:7:::\n"
    assert shadowed.group == "root:x:0:root\nadm:x:4:root,daemon\nsudo:x:27:\n"
    assert shadowed.gshadow == "root:*::root\nadm:*::root,daemon\nsudo:!::\n"


def test_an_empty_password_lets_nobody_in() -> None:
    shadowed = enable_shadow(AccountFiles("guest::1:1::/:/bin/sh\n", "", "", ""), EPOCH)
    assert shadowed.shadow.startswith("guest:*:")


def test_a_password_that_is_to_be_changed_stays_so() -> None:
    files = AccountFiles("root:x:0:0::/:/bin/sh\n", f"root:{HASH}:0:0:99999:7:::\n", "", "")
    assert enable_shadow(files, EPOCH).shadow == f"root:{HASH}:0:0:99999:7:::\n"


def test_the_day_of_the_build_leaves_no_trace() -> None:
    files = AccountFiles("root:x:0:0::/:/bin/sh\n", f"root:{HASH}:20999:0:99999:7:::\n", "", "")
    assert enable_shadow(files, EPOCH).shadow == f"root:{HASH}:{DAY}:0:99999:7:::\n"


def test_a_user_has_a_group_of_its_own_and_is_in_the_others() -> None:
    files = add_account(enable_shadow(EL5, EPOCH), ALICE, EPOCH)
    assert files.passwd.endswith("\nalice:x:1000:1000::/home/alice:/bin/bash\n")
    assert files.shadow.endswith(f"\nalice:{HASH}:{DAY}:0:99999:7:::\n")
    assert files.group == "root:x:0:root\nadm:x:4:root,daemon,alice\nsudo:x:27:alice\nalice:x:1000:\n"
    assert files.gshadow == "root:*::root\nadm:*::root,daemon,alice\nsudo:!::alice\nalice:!::\n"


@pytest.mark.parametrize(("account", "words"), [
    (Account("bin", 1000, "/", "/bin/sh", "!"), "the user bin"),
    (Account("carol", 1, "/", "/bin/sh", "!"), "the user bin"),
    (Account("adm", 1000, "/", "/bin/sh", "!"), "the group adm"),
    (Account("carol", 27, "/", "/bin/sh", "!"), "the group sudo"),
    (Account("carol", 1000, "/", "/bin/sh", "!", ("wheel", "adm", "staff")), "no group wheel, staff"),
])  # fmt: skip
def test_a_user_in_the_way_of_a_package_is_refused(account: Account, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        add_account(enable_shadow(EL5, EPOCH), account, EPOCH)


def test_a_password_is_set_in_shadow_alone() -> None:
    before = enable_shadow(EL5, EPOCH)
    after = set_password(before, "root", HASH)
    assert after.shadow.splitlines()[0] == f"root:{HASH}:{DAY}:0:99999:7:::"
    assert (after.passwd, after.group, after.gshadow) == (before.passwd, before.group, before.gshadow)


def test_a_user_who_is_not_there_has_no_password() -> None:
    with pytest.raises(BuildError, match="no user mallory"):
        set_password(enable_shadow(EL5, EPOCH), "mallory", HASH)


@pytest.mark.root
@pytest.mark.parametrize("files", [
    replace(EL5, group=EL5.group.replace(":x:", ":*:")),  # grpconv would put the x itself into gshadow
    AccountFiles("root:x:0:0::/root:/bin/sh\nold:$1$new$new:5:5::/:/bin/sh\n",
                 f"root:{HASH}:{DAY}:0:99999:7:::\nold:$1$old$old:{DAY}:0:99999:7:::\ngone:*:{DAY}:0:99999:7:::\n",
                 "root:x:0:\nusers:x:100:old,root\n", "root:*::\nusers:!::old\ngone:!::\n"),
])  # fmt: skip
def test_the_real_pwconv_and_grpconv_do_the_same(files: AccountFiles, tmp_path: Path) -> None:
    """They enter a root of their own (-R), so this needs root."""
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "shadow", "group", "gshadow"):
        if getattr(files, name):
            (etc / name).write_text(getattr(files, name))
    (etc / "login.defs").write_text("PASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\n")
    for tool in ("pwconv", "grpconv"):
        Runner().run([tool, "-R", str(tmp_path)], env={"SOURCE_DATE_EPOCH": str(EPOCH)})
    real = AccountFiles(*((etc / name).read_text() for name in ("passwd", "shadow", "group", "gshadow")))
    assert enable_shadow(files, EPOCH) == real
