"""Tags on images and instances, from the 3 series on."""

from __future__ import annotations

from xenkiln.lab.cloud.calls import DONE, FILTER_FIELDS, Action, Call, passes
from xenkiln.lab.cloud.faults import Fault, miss_parameter
from xenkiln.lab.cloud.index import Index
from xenkiln.lab.cloud.markup import Node, list_items

TAGS = "tags"
MOST_TAGS = 10
LONGEST_KEY, LONGEST_VALUE = 127, 255
KINDS = {"images": "image", "instances": "instance"}


def read_tags(index: Index, resource: str) -> dict[str, str]:
    """Key -> value."""
    return dict((index.find(TAGS, resource) or {}).get("tags", {}))


def write_tags(index: Index, resource: str, tags: dict[str, str]) -> None:
    """In place of what it had."""
    index.put(TAGS, resource, {"resource": resource, "tags": tags})


def list_tags(index: Index, resource: str) -> Node:
    """A tagSet."""
    return list_items({"key": key, "value": value} for key, value in read_tags(index, resource).items())


def find_kind(call: Call, resource: str) -> str:
    """What a resource is; raises Fault where it is nothing."""
    kind = next((word for records, word in KINDS.items() if call.cloud.index.find(records, resource)), None)
    if kind is None:
        raise Fault("InvalidID", f"The ID '{resource}' is not valid")
    return kind


def create(call: Call) -> Node:
    """Set tags on each of some resources."""
    resources, tags = call.texts("ResourceId"), call.structures("Tag")
    if not resources or not tags:
        raise miss_parameter("Tag.1.Key" if resources else "ResourceId.1")
    for tag in tags:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not 0 < len(key) <= LONGEST_KEY or len(value) > LONGEST_VALUE or key.startswith(("aws:", "euca:")):
            raise Fault("InvalidParameterValue", f"A tag's key or value is not valid: {key[:60]!a}")
    with call.cloud.index.changing():
        for resource in resources:
            find_kind(call, resource)
            whole = read_tags(call.cloud.index, resource) | {tag["Key"]: tag.get("Value", "") for tag in tags}
            if len(whole) > MOST_TAGS:
                raise Fault("TagLimitExceeded", f"A resource has {MOST_TAGS} tags at most.")
            write_tags(call.cloud.index, resource, whole)
    return DONE


def remove(call: Call) -> Node:
    """Remove tags by their keys, and where a value is given only with that one."""
    with call.cloud.index.changing():
        for resource in call.texts("ResourceId"):
            has = read_tags(call.cloud.index, resource)
            for tag in call.structures("Tag"):
                if tag.get("Value", has.get(tag.get("Key", ""))) == has.get(tag.get("Key", "")):
                    has.pop(tag.get("Key", ""), None)
            write_tags(call.cloud.index, resource, has)
    return DONE


def describe(call: Call) -> Node:
    """One item for each tag of each resource that is there."""
    filters, items = call.filters(), []
    for record in call.cloud.index.list_all(TAGS):
        for key, value in record["tags"].items():
            fields = {"resource-id": record["resource"], "key": key, "value": value,
                      "resource-type": find_kind(call, record["resource"])}  # fmt: skip
            if passes(filters, fields, {}):
                items.append({"resourceId": record["resource"], "resourceType": fields["resource-type"],
                              "key": key, "value": value})  # fmt: skip
    return {"tagSet": list_items(items)}


ACTIONS = {
    "CreateTags": Action(create, since=(3, 0), later="ResourceId.N Tag.N.Key Tag.N.Value"),
    "DeleteTags": Action(remove, since=(3, 0), later="ResourceId.N Tag.N.Key Tag.N.Value"),
    "DescribeTags": Action(describe, since=(3, 0), later=FILTER_FIELDS),
}
