"""/etc/sysconfig/network and ifcfg-*: read by initscripts, by NetworkManager up to Enterprise Linux 9."""

from __future__ import annotations

from ipaddress import ip_interface

from xenkiln.model.configure import Configure, Interface


def make_network_files(configure: Configure, *, systemd: bool) -> dict[str, str]:
    """Path -> text of every file that describes the guest's network.

    Keys: /usr/share/doc/initscripts-*/sysconfig.txt of the distribution.
    """
    network = configure.network
    lines = ["NETWORKING=yes", f"HOSTNAME={configure.hostname}"]
    lines += [f"GATEWAY={network.gateway}"] if network.gateway else []
    files = {"/etc/sysconfig/network": _join(lines)}
    if systemd:
        files["/etc/hostname"] = f"{configure.hostname}\n"
    if network.dns:
        files["/etc/resolv.conf"] = _join([f"nameserver {address}" for address in network.dns])
    for number, interface in enumerate(network.interfaces):
        dns = network.dns if number == 0 else ()
        files[f"/etc/sysconfig/network-scripts/ifcfg-{interface.name}"] = render_interface(interface, dns)
    return files


def render_interface(interface: Interface, dns: tuple[str, ...]) -> str:
    """One ifcfg file; the first three lines are the article's."""
    lines = [f"DEVICE={interface.name}", f"BOOTPROTO={'dhcp' if interface.method == 'dhcp' else 'none'}", "ONBOOT=yes"]
    if interface.address:
        address = ip_interface(interface.address)
        lines += [f"IPADDR={address.ip}", f"NETMASK={address.netmask}"]
    lines += [f"GATEWAY={interface.gateway}"] if interface.gateway else []
    lines += [f"DNS{number}={address}" for number, address in enumerate(dns, start=1)]
    return _join(lines)


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
