"""lab: a Xen host in qemu that stays up, for work by hand."""

from __future__ import annotations

from xenkiln.commands.boot import describe_lab, find_lab_problems, require_dom0
from xenkiln.errors import XenkilnError
from xenkiln.lab import host
from xenkiln.lab.network import GATEWAY, OTHER_ADDRESSES
from xenkiln.lab.session import start_lab
from xenkiln.system.progress import show_progress

KNOWN_HOSTS = "/dev/null"


def run() -> None:
    """Start it, and print how to reach it."""
    if problems := find_lab_problems(0):
        raise XenkilnError("\n".join(map(str, problems)))
    require_dom0()
    lab = describe_lab()
    with show_progress("lab") as tell:
        state = start_lab(lab, tell)
    ports = [str(host.forward_port(lab.host, address, host.SSH)) for address in OTHER_ADDRESSES]
    key = lab.host / host.KEY
    print(f"""A Xen host is up ({state.accelerator}, {state.memory_mib} MiB); it ends with `doit lab-stop`.
  its shell:     ssh -i {key} -o UserKnownHostsFile={KNOWN_HOSTS} -o StrictHostKeyChecking=no -p {state.ssh_port} root@127.0.0.1
  deploy to it:  deploy: {{host: 127.0.0.1, port: {state.ssh_port}, key_file: {key},
                          fingerprint: "{state.fingerprint}"}}
  its guests:    bridge xenbr0, dhcp gives them {OTHER_ADDRESSES[0]} to {OTHER_ADDRESSES[-1]}, gateway {GATEWAY}
  their ssh:     answers on 127.0.0.1 ports {", ".join(ports)}, in that order; their meta-data have the key {key}.pub""")  # noqa: E501  # a line to be copied
