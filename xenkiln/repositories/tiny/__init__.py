"""The repository that the tiny guest is made from: kernel, busybox and ssh server of this host's distribution."""

from __future__ import annotations

import os
from pathlib import Path

from xenkiln.repositories.tiny import trees
from xenkiln.repositories.tiny.debs import KERNEL_PARTS, fetch_debs, read_date
from xenkiln.repositories.tiny.rpms import HONEST_DATES, Rpm, build_rpms, find_license
from xenkiln.system.execution import Context
from xenkiln.system.steps import Do, Step
from xenkiln.system.templates import TEMPLATES

ARCHITECTURES = ("x86_64",)
OWN_VERSION = "1-1"
OWN_LICENSE = "Apache-2.0"


def make_repository_steps(work: Path, cache: Path, output: Path) -> list[Step]:
    """Fetch, build, index."""
    sources, layout = work / "sources", work / "trees"
    versions: dict[str, str] = {}

    def fetch(context: Context) -> None:
        debs = fetch_debs(cache, context)
        context.tell(f"unpack {len(debs)} source packages")
        for deb in debs:
            name, version, _ = deb.name.split("_")
            versions[name] = version.replace("%3a", ":")
            (sources / name).mkdir(parents=True)
            context.run(["dpkg-deb", "--extract", deb, sources / name])
        context.values["epoch"] = str(max(map(read_date, debs)))

    def build(context: Context) -> None:
        rpms = lay_out(sources, versions, layout, context)
        build_rpms(rpms, layout, work, output, context.epoch, context)
        context.summary = ", ".join(f"{rpm.name} {rpm.version}" for rpm in rpms if rpm.name in ("kernel", "busybox"))

    def index(context: Context) -> None:
        write_index(output, context)

    return [
        Do("fetch kernel, busybox and ssh server as this host's apt is configured", fetch,
           ("apt-get", "dpkg-deb"), (cache / "debs", sources)),
        Do("build their rpms", build, ("depmod", "rpm", "rpmbuild", "zstd"), (layout, work / "tiny.spec")),
        Do("index the rpms", index, ("createrepo_c",), (output / "repodata",)),
    ]  # fmt: skip


def lay_out(sources: Path, versions: dict[str, str], layout: Path, context: Context) -> list[Rpm]:
    """The files of every rpm below layout/NAME, and the rpms; tiny-release, which owns the folders, first."""
    rpms = [Rpm("tiny-release", OWN_VERSION, OWN_LICENSE, "Folders, accounts and init scripts of the tiny guest",
                noarch=True)]  # fmt: skip
    trees.fill_release(layout / "tiny-release")

    def add(name: str, source: str, summary: str, requires: tuple[str, ...] = (), post: str = "") -> Path:
        rpms.append(Rpm(name, versions[source], find_license(source), summary, ("tiny-release", *requires), post=post))
        tree = layout / name
        tree.mkdir()
        trees.fill_copyright(sources / source, tree, name)
        return tree

    kernel = sorted(path for path in sources.iterdir() if KERNEL_PARTS.match(path.name))
    image = next(path.name for path in kernel if path.name.startswith("linux-image-"))
    tree = add("kernel", image, "The kernel, and the modules that a Xen guest needs")
    trees.fill_kernel(kernel, tree, context)
    tree = add("busybox", "busybox-static", "Shell and programs in one", post=(TEMPLATES / "tiny/shells").read_text())
    trees.fill_busybox(sources / "busybox-static", tree, context)
    programs = [trees.find_file(sources / "dropbear-bin", name) for name in trees.SSH_PROGRAMS]
    libraries = trees.find_libraries(sources, programs, context)
    trees.fill_ssh_server(programs, add("dropbear", "dropbear-bin", "Small ssh server", ("busybox", *libraries)))
    for name, files in libraries.items():
        trees.fill_libraries(files, add(name, name, f"Shared library {', '.join(path.name for path in files)}"))
    rpms.append(Rpm("meta-data", OWN_VERSION, OWN_LICENSE, "Fetches the ssh key and meta-data of an EC2-like cloud",
                    ("tiny-release", "busybox"), noarch=True))  # fmt: skip
    trees.fill_metadata_client(layout / "meta-data")
    return rpms


def write_index(output: Path, context: Context) -> None:
    """repodata/ with the group `base`, of bytes that depend on the rpms alone."""
    for rpm in output.iterdir():
        # The index holds the date of each file.
        os.utime(rpm, (context.epoch, context.epoch))
    context.run(["createrepo_c", "--quiet", "--no-database", "--general-compress-type", "gz",
                 "--groupfile", TEMPLATES / "tiny" / "comps.xml", "--revision", context.values["epoch"],
                 "--set-timestamp-to-revision", "--workers", "1", output],
                env=HONEST_DATES)  # fmt: skip
