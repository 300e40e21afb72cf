"""Who is who, when everybody is to be decided at once."""

import math
from collections.abc import Sequence


def assign(scores: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of a row and a column, each used once at most, whose scores add up to the most; in order of rows.

    Scores of 0 or less are never paired. The Hungarian method in the form of Jonker and Volgenant, "A shortest
    augmenting path algorithm for dense and sparse linear assignment problems" (1987), O(rows² · columns).
    """
    columns = len(scores[0]) if scores else 0
    if len(scores) > columns:
        turned = assign([[row[column] for row in scores] for column in range(columns)])
        return sorted((row, column) for column, row in turned)
    row_of: list[int | None] = [None] * columns
    row_price, column_price = [0.0] * len(scores), [0.0] * columns
    costs = [[-max(score, 0.0) for score in row] for row in scores]
    for row in range(len(scores)):
        add_row(row, costs, row_of, row_price, column_price)
    pairs = ((row, column) for column, row in enumerate(row_of) if row is not None and scores[row][column] > 0)
    return sorted(pairs)


def add_row(
    row: int,
    costs: Sequence[Sequence[float]],
    row_of: list[int | None],
    row_price: list[float],
    column_price: list[float],
) -> None:
    """Find the new row a column along the cheapest path of re-assignments; all but the costs is updated in place."""
    columns = range(len(row_of))
    distance, came_from = [math.inf] * len(row_of), [-1] * len(row_of)
    done: list[int] = []
    at, reached, column = row, 0.0, -1  # -1: the new row, which has no column yet
    while True:
        for j in columns:
            through = reached + costs[at][j] - row_price[at] - column_price[j]
            if j not in done and through < distance[j]:
                distance[j], came_from[j] = through, column
        column = min((j for j in columns if j not in done), key=distance.__getitem__)
        reached = distance[column]
        occupant = row_of[column]
        if occupant is None:
            break
        done.append(column)
        at = occupant
    row_price[row] += reached
    for j in done:
        occupant = row_of[j]
        assert occupant is not None
        row_price[occupant] += reached - distance[j]
        column_price[j] -= reached - distance[j]
    while column != -1:
        before = came_from[column]
        row_of[column] = row if before == -1 else row_of[before]
        column = before
