"""EC2 as its query API: parameters in a URL or a form, answers as XML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xenkiln.lab.cloud import addresses, images, instances, key_pairs, markup, security_groups, tags, zones
from xenkiln.lab.cloud.calls import Action
from xenkiln.lab.cloud.faults import Fault, miss_parameter, reject_value
from xenkiln.lab.cloud.query_signatures import check_query_signature
from xenkiln.lab.cloud.request import Answer, Request, split_parameters

if TYPE_CHECKING:
    from xenkiln.lab.cloud.cloud import Cloud

XML = {"Content-Type": "text/xml;charset=UTF-8"}
LARGEST_FORM = 1 << 20
ACTIONS: dict[str, Action] = {
    **zones.ACTIONS, **images.ACTIONS, **instances.ACTIONS, **key_pairs.ACTIONS, **security_groups.ACTIONS,
    **addresses.ACTIONS, **tags.ACTIONS,
}  # fmt: skip


class Query:
    """Answers requests for one cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def answer(self, request: Request, _: str) -> Answer:
        """Raises Fault."""
        profile = self._cloud.profile
        if request.method not in profile.query_methods:
            raise Fault("InvalidRequest", f"This release takes {' or '.join(profile.query_methods)} alone.", 405)
        body = request.body.read(LARGEST_FORM)
        parameters = self._read_parameters(request, body)
        name = parameters.get("Action", "")
        action = ACTIONS.get(name)
        request.notes["action"] = name if action else "unknown"
        consumed = check_query_signature(request, body, profile, parameters, self._cloud.secrets)
        namespace = self._choose_namespace(parameters)
        if action is None or action.since > profile.release:
            raise Fault("InvalidAction", f"The action {name} is not valid for this web service.")
        node = action.run(action.bind(self._cloud, parameters, consumed))
        whole = [("requestId", request.number), *(node.items() if isinstance(node, dict) else node)]
        return Answer(body=markup.render(f"{name}Response", whole, namespace), headers=XML)

    def _read_parameters(self, request: Request, body: bytes) -> dict[str, str]:
        pairs = request.parameters()
        if request.method == "POST":
            pairs += split_parameters(body.decode("latin-1"))
        parameters = dict(pairs)
        if len(parameters) != len(pairs):
            raise Fault("MalformedQueryString", "A parameter is given twice.", 404)
        for name, value in pairs:
            if markup.FORBIDDEN.search(name + value):
                raise Fault("MalformedQueryString", "A parameter has a character in it that no answer can hold.", 404)
        return parameters

    def _choose_namespace(self, parameters: dict[str, str]) -> str:
        """Of the answer: the version that was asked for, where the release knows it."""
        profile, version = self._cloud.profile, parameters.get("Version")
        if version is None:
            raise miss_parameter("Version")
        if profile.newest_version and not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", version):
            raise reject_value("Version", version)
        chosen = version if version <= profile.newest_version else profile.api_version
        return f"http://ec2.amazonaws.com/doc/{chosen}/"

    def write_fault(self, request: Request, fault: Fault) -> Answer:
        """As the query API has it."""
        error = {"Code": fault.code, "Message": fault.message}
        body = markup.render("Response", {"Errors": {"Error": error}, "RequestID": request.number})
        return Answer(fault.status, body, XML)
