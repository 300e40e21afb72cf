"""One page of a comparison to look at or to send: the table, how it came about, and every plot, in one file."""

from base64 import b64encode
from html import escape
from pathlib import Path

from training.compare.table import Table
from training.compare.table_text import cells_of_table, notes

STYLE = (
    "body{font:15px/1.4 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}th,td{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:right}"
    "th:first-child,td:first-child{text-align:left}figure{margin:2em 0}img{max-width:100%}"
)


def write_page(table: Table, plots: Path, file: Path) -> None:
    """Write `file` as HTML that needs no other file and no network; `plots` is the folder of the PNG files."""
    figures = [_figure(plot) for plot in sorted(plots.glob("*.png"))]
    file.write_text(_html_table(table) + "\n".join([*figures, "</body></html>", ""]), encoding="utf-8")


def _html_table(table: Table) -> str:
    cells = cells_of_table(table)
    said = " ".join((f"{table.seeds} seeds, {table.people} people.", *table.sentences))
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(table.name)}</title>',
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{escape(table.name)}</h1>",
            f"<p><strong>{escape(said)}</strong></p>",
            _rows(cells.head, cells.rows),
            *([] if table.common is None else [f"<h2>{table.common.title}</h2>", _rows(cells.head, cells.common)]),
            f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in notes(table))}</ul>",
            "",
        ]
    )


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return f"<table>{_row('th', head)}{''.join(_row('td', row) for row in rows)}</table>"


def _row(cell: str, texts: list[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"


def _figure(plot: Path) -> str:
    name, data = escape(plot.name), b64encode(plot.read_bytes()).decode()
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"><figcaption>{name}</figcaption></figure>'
