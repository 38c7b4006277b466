"""Whether a text is cloud-config: the YAML that cloud-init takes as user-data."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from xenkiln.errors import Problem
from xenkiln.model.document import say_syntax

BEGINNING = "#cloud-config"


def find_cloud_config_problem(text: str, file: str) -> Problem | None:
    """The first thing in it that cloud-init would stumble over, or drop without a word, with its line.

    Read as cloud-init reads it, by PyYAML with its plain types; a key that is there twice would lose what the first
    one had. No value is repeated in what is said: it may be a secret. What the keys mean is not looked at.
    """
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            return Problem(file, 1, "", f"{BEGINNING} is followed by keys and values, such as 'packages: [ntp]'")
        for key, first in _list_repeated(node):
            fact = f"the same key is on line {first.start_mark.line + 1}; keep one of the two"
            return Problem(file, key.start_mark.line + 1, str(key.value), fact)
        loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 0
        line, fact = say_syntax(error, text.split("\n"), line)
        return Problem(file, line, "", fact)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return Problem(file, line, "", "holds a control character, which YAML does not allow")
    except RecursionError:
        return Problem(file, 0, "", "is nested too deep")
    except ValueError:
        return Problem(file, 0, "", "holds a date or number that there is not: put it in quotes")
    finally:
        if loader is not None:
            loader.dispose()
    return None


def _list_repeated(top: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.ScalarNode]]:
    """Each key that its mapping has already, and the first one."""
    waiting, seen = [top], {id(top)}
    while waiting:
        node = waiting.pop()
        inside = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, yaml.ScalarNode] = {}
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and keys.setdefault(key.value, key) is not key:
                    yield key, keys[key.value]
                inside.append(value)
        for each in inside:
            if id(each) not in seen:  # an alias is the node that it stands for
                seen.add(id(each))
                waiting.append(each)
