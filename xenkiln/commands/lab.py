"""lab: a Xen host in qemu that stays up, for work by hand."""

from __future__ import annotations

import json
import shlex

from xenkiln.commands.boot import describe_lab
from xenkiln.errors import XenkilnError
from xenkiln.lab import host
from xenkiln.lab.network import GATEWAY, OTHER_ADDRESSES
from xenkiln.lab.readiness import find_lab_problems, require_dom0
from xenkiln.lab.session import find_lab, start_lab
from xenkiln.system.progress import show_progress

KNOWN_HOSTS = "/dev/null"


def run() -> None:
    """Start it where none runs, and print how to reach it."""
    lab = describe_lab()
    state = find_lab(lab)
    if state is None:
        if problems := find_lab_problems(lab, 0):
            raise XenkilnError("\n".join(map(str, problems)))
        require_dom0(lab)
        with show_progress("lab") as tell:
            state = start_lab(lab, tell)
    ports = [str(host.forward_port(lab.host, address, host.SSH)) for address in OTHER_ADDRESSES]
    key = lab.host / host.KEY
    login = f"ssh -i {shlex.quote(str(key))} -o UserKnownHostsFile={KNOWN_HOSTS} -o StrictHostKeyChecking=no"
    print(f"""A Xen host is up ({state.accelerator}, {state.memory_mib} MiB); it ends with `doit lab-stop`.
  its shell:     {login} -p {state.ssh_port} root@127.0.0.1
  deploy to it:  deploy: {{host: 127.0.0.1, port: {state.ssh_port}, key_file: {json.dumps(str(key))},
                          fingerprint: "{state.fingerprint}"}}
  its guests:    bridge xenbr0, dhcp gives them {OTHER_ADDRESSES[0]} to {OTHER_ADDRESSES[-1]}, gateway {GATEWAY}
  their ssh:     answers on 127.0.0.1 ports {", ".join(ports)}, in that order of their addresses
                 (`xl console NAME` in its shell shows a guest's); their meta-data have the key {key}.pub""")
