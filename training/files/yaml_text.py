"""YAML as people write it: a key that is there twice is an error, and what is wrong is one sentence with its place."""

from typing import Any

import yaml
from yaml.reader import ReaderError


class YamlTextError(ValueError):
    """The text cannot be read; the message names line and column, counted from 1, but no file."""


def read_yaml(text: str) -> Any:
    """The values in `text`. Raises YamlTextError, also for a key that is twice in one mapping, which YAML forbids."""
    try:
        return yaml.load(text, _Loader)  # it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlTextError(f"{place}{error.problem or error.context}") from None
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        said = f"the character #x{error.character:04x} is not allowed"
        raise YamlTextError(f"line {line}, column {column}: {said}") from None
    except RecursionError:
        raise YamlTextError("its values are nested too deeply") from None
    except ValueError as error:  # such as the date 2026-02-30
        raise YamlTextError(f"a value is none of its kind: {error}") from None


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As the text has it: later, what `<<` takes from elsewhere stands beside a mapping's own keys."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (earlier := first.setdefault((key.tag, key.value), key)) is not key:
                said = f"the key {key.value!r} is there already, in line {earlier.start_mark.line + 1}; leave one out"
                raise yaml.MarkedYAMLError(problem=said, problem_mark=key.start_mark)
        return node
