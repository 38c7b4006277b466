"""A guest has one way out, whichever way the recipe says it."""

from __future__ import annotations

import pytest

from xenkiln.families import debian, tiny
from xenkiln.families.gateways import list_interfaces
from xenkiln.model.configure import Interface, Network
from xenkiln.model.loader import load_image
from xenkiln.system.layout import PROJECT


def static(name: str, gateway: str | None = None) -> Interface:
    return Interface(name=name, method="static", address="192.0.2.10/24", gateway=gateway)


@pytest.mark.parametrize(("interfaces", "gateways"), [
    ((Interface(name="eth0"), static("eth1")), [None, "192.0.2.1"]),
    ((static("eth0"), static("eth1")), ["192.0.2.1", None]),
    ((static("eth0"), static("eth1", "192.0.2.9")), [None, "192.0.2.9"]),
    ((Interface(name="eth0"),), [None]),
])  # fmt: skip
def test_there_is_one_gateway(interfaces: tuple[Interface, ...], gateways: list[str | None]) -> None:
    network = Network(interfaces=interfaces, gateway="192.0.2.1")
    assert [interface.gateway for interface in list_interfaces(network)] == gateways


def test_tiny_writes_one_gateway() -> None:
    network = Network(interfaces=(static("eth0"), static("eth1", "192.0.2.9")), gateway="192.0.2.1")
    lines = tiny.render_interfaces(network).splitlines()
    assert [line.strip() for line in lines if "gateway" in line] == ["gateway 192.0.2.9"]


def test_a_gateway_without_an_interface_of_its_own_is_refused() -> None:
    for family, name in ((tiny, "tiny"), (debian, "debian-12")):
        recipe = load_image(PROJECT / f"recipes/images/{name}.yaml").recipe
        configure = recipe.configure.model_copy(update={"network": Network(gateway="192.0.2.1")})
        ((place, fact),) = family.find_recipe_problems(recipe.model_copy(update={"configure": configure}))
        assert place == ("configure", "network", "gateway")
        assert "static" in fact
