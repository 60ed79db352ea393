"""Draw the map of the code from its imports: which folder imports which, and what each one is."""

from __future__ import annotations

import ast
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent

BEGIN = "<!-- made by docs/house.py; run make fix -->"
END = "<!-- end of what docs/house.py makes -->"


def imports() -> dict[str, set[str]]:
    """Return what each folder (or loose file) of pipeline/, and stages/, imports of the others."""
    graph = grimp.build_graph("pipeline", "stages", cache_dir=None)
    rooms = [*sorted(graph.find_children("pipeline")), "stages"]
    for room in rooms:
        graph.squash_module(room)
    return {
        room: set(rooms) & graph.find_modules_directly_imported_by(room) - {room} for room in rooms
    }


def levels(edges: dict[str, set[str]]) -> dict[str, int]:
    """Return how many imports lie below each room: 0 for those that import none."""
    found: dict[str, int] = {}
    while len(found) < len(edges):
        ready = [room for room in edges if room not in found and edges[room] <= found.keys()]
        if not ready:
            raise ValueError(f"imports in a circle: {sorted(edges.keys() - found.keys())}")
        for room in ready:
            found[room] = 1 + max((found[other] for other in edges[room]), default=-1)
    return found


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out imports that follow from others, so that the drawing can be read."""

    def below(room: str) -> set[str]:
        return edges[room].union(*map(below, edges[room]))

    return {
        room: others - set().union(*(below(other) for other in others))
        for room, others in edges.items()
    }


def phrase(room: str) -> str:
    """Return the first line of a room's docstring."""
    path = ROOT / room.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def page() -> str:
    """Return the drawing as Mermaid, and a table of the rooms, highest first."""
    edges = imports()
    level = levels(edges)
    rooms = sorted(edges, key=lambda room: (-level[room], room))
    short = {room: room.removeprefix("pipeline.") for room in rooms}
    lines = ["", "```mermaid", "flowchart TD"]
    for room in rooms:
        lines += [f"    {short[room]} --> {short[other]}" for other in sorted(reduced(edges)[room])]
    lines += ["```", "", "| folder | what it is |", "|---|---|"]
    for room in rooms:
        path = ROOT / room.replace(".", "/")
        name = f"{path.relative_to(ROOT)}/" if path.is_dir() else f"{path.relative_to(ROOT)}.py"
        lines.append(f"| `{name}` | {phrase(room)} |")
    return "\n".join(lines) + "\n\n"
