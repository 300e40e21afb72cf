"""JSON that is a little wrong: one value of a tree is replaced, removed, or joined by another."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any, Final

ODD: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        1.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        2**31,
        2**63,
        2**64,
        -(2**63),
        10**400,
    ),
    *("", "x", "\0", "\ud800", "a" * 5_000, "NaN", "1", [], {}, [[]], [None], {"a": 1}, [0] * 300, [[[[[[[[]]]]]]]]),
)
Tree = dict[str, Any]


def odd_tree(chance: Random, tree: Tree) -> Tree:
    """A copy with one to three changes."""
    changed = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = chance.choice([*places(changed)] or [(changed, "type")])
        pick = chance.random()
        if pick < 0.6:
            holder[key] = copy.deepcopy(chance.choice(ODD))
        elif pick < 0.8:
            del holder[key]
        elif isinstance(holder, dict):
            holder[chance.choice(("x", "type", "name", "parameters", "", "__proto__", key))] = chance.choice(ODD)
        else:
            holder.insert(0, copy.deepcopy(holder[key]))
    return changed


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key of the tree; of long lists only the beginning."""
    keys = list(tree) if isinstance(tree, dict) else list(range(min(len(tree), 8))) if isinstance(tree, list) else []
    for key in keys:
        yield tree, key
        yield from places(tree[key])
