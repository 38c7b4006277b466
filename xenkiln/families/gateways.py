"""Which of a guest's interfaces leads out of its networks."""

from __future__ import annotations

from collections.abc import Iterator

from xenkiln.families.contract import FieldProblem
from xenkiln.model.configure import Interface, Network


def list_interfaces(network: Network) -> list[Interface]:
    """The interfaces; the network's gateway goes with the first static one, unless one has its own."""
    interfaces = list(network.interfaces)
    static = [number for number, interface in enumerate(interfaces) if interface.method == "static"]
    if network.gateway and static and not any(interface.gateway for interface in interfaces):
        interfaces[static[0]] = interfaces[static[0]].model_copy(update={"gateway": network.gateway})
    return interfaces


def find_gateway_problem(network: Network) -> Iterator[FieldProblem]:
    """A gateway that goes with no interface."""
    if network.gateway and not any(interface.method == "static" for interface in network.interfaces):
        yield ("configure", "network", "gateway"), "goes with a static interface; dhcp brings its own"
