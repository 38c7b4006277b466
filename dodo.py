"""xenkiln's front door: one task function per verb. `doit list` shows them, `doit help VERB` explains one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from doit.task import Task

from xenkiln import actions, cloud_tasks, tasks
from xenkiln.reporter import KilnReporter
from xenkiln.system.interrupts import stop_on_signals

stop_on_signals()

DOIT_CONFIG = {
    "default_tasks": ["build"],
    "backend": "sqlite3",
    # The records in build/work say what is done; a kill cannot leave them wrong, nor another user's build.
    "dep_file": ":memory:",
    "reporter": KilnReporter,
    "sort": "definition",
    "verbosity": 2,
}


def task_build() -> Iterator[Task]:
    """build an image: root.img, vmlinuz, initrd.img, Xen configuration, checksums

    Goes on from the last finished stage and does only what the recipe's changes ask for. The image is
    left in build/images/NAME, the full output of each stage in build/images/NAME/logs. Needs root.
    Several images at the same time: doit -n 2 build:ONE build:OTHER
    """
    return tasks.make_build_tasks(tasks.doc_of(task_build))


def task_stages() -> Iterator[Task]:
    """The stages of a build, in order."""
    for name in tasks.STAGES:
        yield from tasks.make_stage_tasks(name)


def task_check() -> Iterator[Task]:
    """Refuse before the first change."""
    return tasks.make_check_tasks()


def task_plan() -> Iterator[Task]:
    """show every command and every file of a build, without running anything or being root

    Stages that are up to date are marked so. At the end it says what stands in the way on this host.
    """
    return tasks.make_command_tasks("plan", tasks.doc_of(task_plan))


def task_lock() -> Iterator[Task]:
    """pin exact package versions, checksums and the date, in a file beside the recipe

    A build with recipes/images/NAME.lock.yaml installs exactly these, and clamps every time in the image
    to its date; it says which package the mirror no longer has. Remove the file to follow the mirror again.
    """
    return tasks.make_command_tasks("lock", tasks.doc_of(task_lock))


def task_verify() -> Iterator[Task]:
    """build again in another folder, filesystem, clock, locale and umask, and compare every byte

    Builds the image first where it is not up to date. The second build also has another time zone, PATH and host
    name. On a difference it names the files that differ.
    """
    return tasks.make_command_tasks("verify", tasks.doc_of(task_verify), after_build=True)


def task_diff() -> Iterator[Task]:
    """show the packages and files that differ between two built images: doit diff:A:B

    Compares names, versions and checksums of packages, and type, mode, owner and content of files.
    """
    return tasks.make_pair_tasks("diff", tasks.doc_of(task_diff))


def task_shell() -> Iterator[Task]:
    """open a shell inside a built image; what you change there is thrown away

    The image is mounted read-only under an overlay in memory, without a network.
    """
    return tasks.make_command_tasks("shell", tasks.doc_of(task_shell))


def task_boot() -> Iterator[Task]:
    """boot an image as a guest of real Xen, in qemu on this host, and see that it comes up

    Builds the image and the lab's dom0 first where they are not up to date. What is expected is the recipe's
    `boot` section. Leaves boot.json, console.log and boot.junit.xml beside the image, which stays as it is:
    everything happens on overlays that are thrown away. Several boots at the same time share one Xen host.
    """
    return tasks.make_command_tasks("boot", tasks.doc_of(task_boot), after_build=True, check_first=True,
                                    host=tasks.LAB_HOST)  # fmt: skip


def task_lab() -> Task:
    """start a Xen host in qemu that stays up for work by hand: ssh, xl, deploy, boots that join it

    Prints how to reach it. It listens on this host's loopback alone, and mounts nothing here.
    """
    return tasks.make_host_task("lab", tasks.doc_of(task_lab), after=tasks.list_builds(tasks.LAB_HOST))


def task_lab_stop() -> Task:
    """end the lab's cloud and its instances, then the Xen host that `doit lab` started and all that runs on it

    What was published at the cloud is there again the next time. Refused while a boot uses that host, or while it is
    just being started.
    """
    return tasks.make_host_task("lab-stop", tasks.doc_of(task_lab_stop))


def task_deploy() -> Iterator[Task]:
    """take a built image to the recipe's Xen host over ssh and start it there

    Where to is the recipe's `deploy` section. Only what the host does not have yet is sent.
    """
    return tasks.make_command_tasks("deploy", tasks.doc_of(task_deploy), after_build=True)


def task_bundle() -> Iterator[Task]:
    """make bundles of kernel, ramdisk and root, encrypted and signed for an EC2-compatible cloud

    In build/bundles/NAME: parts of 10 MiB and a manifest for each, as Eucalyptus 1.4 to 5 and Amazon read them.
    Which cloud they are for is the recipe's `publish` section, or cloud=NAME on the command line.
    """
    return cloud_tasks.make_component_tasks("bundle", tasks.doc_of(task_bundle), after="build")


def task_unbundle() -> Task:
    """put the image of a bundle together again: --manifest FILE --to IMAGE [--key FILE]

    The key is a private one, yours where none is given; with cloud=NAME yours at that cloud. Every digest is checked,
    and the signature where the key is the signer's. Holes are holes again.
    """
    options = [{"name": name, "long": name, "default": "", "help": text}
               for name, text in (("manifest", "NAME.manifest.xml, its parts beside it"),
                                  ("to", "the image to write; it must not exist"),
                                  ("key", "a private key: yours or the cloud's"))]  # fmt: skip
    return cloud_tasks.make_unbundle_task("unbundle", tasks.doc_of(task_unbundle), *options)


def task_upload() -> Iterator[Task]:
    """take bundles to the buckets of a cloud, only what is not there yet

    Several parts at the same time, each checked by its MD5; a run that was cut off goes on where it was.
    """
    return cloud_tasks.make_component_tasks("upload", tasks.doc_of(task_upload), after="bundle")


def task_register() -> Iterator[Task]:
    """make of what was uploaded an EKI, an ERI and an EMI of the cloud

    What the cloud has already is not registered again; an earlier image stays until `doit deregister`.
    """
    return cloud_tasks.make_component_tasks("register", tasks.doc_of(task_register), after="upload")


def task_publish() -> Iterator[Task]:
    """bundle, upload and register an image in one go: doit publish:tiny, or with cloud=NAME another cloud's

    One stream from the image to the cloud, nothing of it touches the disk. Everything is checked before: credentials,
    buckets, names, what the cloud's release takes. Run again it does what is missing, and nothing twice.
    """
    return cloud_tasks.make_publish_tasks("publish", tasks.doc_of(task_publish), after="build", is_checked=True)


def task_launch() -> Iterator[Task]:
    """start an instance of what was published, and wait until it runs

    How is the recipe's `launch` section; options take the place of its fields for this once. An instance that runs
    already stays the one; refused where that is an earlier image's, or was started with other options.
    """
    options = [{"name": name, "long": long, "default": "", "help": text}
               for name, long, text in (("instance_type", "type", "m1.small and the like"),
                                        ("keypair", "key", "a key pair's name"),
                                        ("security_groups", "group", "security groups, with commas between"),
                                        ("kernel", "kernel", "eki-... in place of the registered one"),
                                        ("ramdisk", "ramdisk", "eri-... in place of the registered one"),
                                        ("zone", "zone", "an availability zone"),
                                        ("addressing", "addressing", "public or private"),
                                        ("address", "address", "one of your own addresses, given to it"))]  # fmt: skip
    file = {"name": "user_data_file", "long": "user-data-file", "default": "", "type": actions.find_from_user,
            "help": "user-data, a template or gzip'd, in place of the recipe's"}  # fmt: skip
    return cloud_tasks.make_publish_tasks("launch", tasks.doc_of(task_launch), *options, file, is_checked=True,
                                          on_host=True)  # fmt: skip


def task_console() -> Iterator[Task]:
    """print the console of the launched instance

    Waits for what the image's recipe expects there in its `boot` section, and fails where it does not come in time.
    """
    return cloud_tasks.make_publish_tasks("console", tasks.doc_of(task_console))


def task_instances() -> Task:
    """list your instances at a cloud, as ec2-describe-instances does

    The lab's cloud, or another one: doit instances cloud=NAME
    """
    return cloud_tasks.make_listing_task("instances", tasks.doc_of(task_instances))


def task_terminate() -> Iterator[Task]:
    """end the instance that `doit launch` has started, and wait until it has ended"""
    return cloud_tasks.make_publish_tasks("terminate", tasks.doc_of(task_terminate))


def task_deregister() -> Iterator[Task]:
    """take an image back from a cloud, the earlier ones of its name too, and remove their bundles there

    Refused while its instance runs.
    """
    return cloud_tasks.make_publish_tasks("deregister", tasks.doc_of(task_deregister))


def task_userdata() -> Iterator[Task]:
    """print the user-data that an instance would get, its template filled in"""
    return cloud_tasks.make_publish_tasks("userdata", tasks.doc_of(task_userdata))


def task_keypair() -> Iterator[Task]:
    """make the key pair of a cloud's recipe there; the private key is kept in build/clouds, for you alone"""
    return cloud_tasks.make_cloud_tasks("keypair", tasks.doc_of(task_keypair))


def task_cloud() -> Iterator[Task]:
    """show what is at a cloud: zones and their capacity, key pairs, images, instances"""
    return cloud_tasks.make_cloud_tasks("cloud", tasks.doc_of(task_cloud))


def task_prune() -> Iterator[Task]:
    """keep the newest images of each name at a cloud, as many as its recipe says, and take the others back

    What an instance runs stays. Only images are looked at whose names are such as `doit publish` gives.
    """
    return cloud_tasks.make_cloud_tasks("prune", tasks.doc_of(task_prune))


def task_doctor() -> Task:
    """tell what this host has and lacks: tools, root, loop devices, space, old binaries

    Fails when something is missing that every build needs.
    """
    return tasks.make_host_task("doctor", tasks.doc_of(task_doctor))


def task_sweep() -> Task:
    """list what killed runs left: scratch folders, partial files, mounts; --remove removes them

    Only what lies below the build folder and is a run's own for certain, and nothing that a running build
    uses. Loop devices over its files are listed and left: a run's own end with it. The next build needs no
    sweep: it goes on by itself.
    """
    remove = {"name": "remove", "long": "remove", "type": bool, "default": False, "help": "remove what is listed"}
    return tasks.make_host_task("sweep", tasks.doc_of(task_sweep), remove)


VERBS = {name.removeprefix("task_") for name in dir() if name.startswith("task_")} | {*tasks.STAGES}
tasks.refuse_unknown_names(sys.argv[1:], VERBS, cloud_tasks.list_names, pairs={"diff"},
                           parts={"bundle", "upload", "register"})  # fmt: skip
cloud_tasks.refuse_unknown_words(sys.argv[1:])
