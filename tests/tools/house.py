"""What the imports say of a package: wings, arrows between modules, arrows that run back up, circles, long files.

    python -m tests.tools.house [FOLDER]

counts every import in the source (type checking, and imports inside functions, included). A wing is a folder of the
package; a module that lies in none is a wing of its own. An arrow is a pair of modules, one importing the other, or
between wings a pair of wings. Arrows inside a circle run back up, whatever the order.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("graphon_theory", "validation/graphon_validation")

Arrows = set[tuple[str, str]]


@dataclass(frozen=True)
class House:
    """One package: its modules by dotted name with their lines, and arrows (importing, imported) between them."""

    package: str
    lines: dict[str, int]
    arrows: Arrows

    @classmethod
    def of(cls, folder: Path) -> House:
        package = folder.name
        files = {dotted(path, folder): path for path in sorted(folder.rglob("*.py"))}
        arrows = {
            (name, to)
            for name, path in files.items()
            for to in imported(ast.parse(path.read_text(encoding="utf-8")), package, files)
            if to != name and name != package and to != package
        }
        lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
        return cls(package, lines, arrows)

    def wing(self, module: str) -> str:
        return module.split(".")[1] if "." in module else module

    @property
    def wings(self) -> Counter[str]:
        """Modules of every wing, faces of folders left out."""
        folders = {name for name in self.lines if any(other.startswith(f"{name}.") for other in self.lines)}
        return Counter(self.wing(name) for name in self.lines if name not in folders)

    @property
    def wing_arrows(self) -> Arrows:
        pairs = ((self.wing(a), self.wing(b)) for a, b in self.arrows)
        return {(a, b) for a, b in pairs if a != b}

    @property
    def longest(self) -> tuple[str, int]:
        return max(self.lines.items(), key=lambda item: item[1])


def dotted(path: Path, folder: Path) -> str:
    parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module, package: str, files: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a source imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in files else node.module


def circles(arrows: Arrows) -> list[set[str]]:
    """Sets of names that reach each other."""
    reach = {name: {name} for arrow in arrows for name in arrow}
    moved = True
    while moved:
        moved = False
        for a, b in arrows:
            if not reach[b] <= reach[a]:
                reach[a] |= reach[b]
                moved = True
    found: list[set[str]] = []
    for name in sorted(reach):
        group = {other for other in reach[name] if name in reach[other]}
        if len(group) > 1 and group not in found:
            found.append(group)
    return found


def back_up(arrows: Arrows) -> Arrows:
    """Arrows inside a circle: one of each must run back up, whatever the order."""
    groups = circles(arrows)
    return {(a, b) for a, b in arrows if any(a in group and b in group for group in groups)}


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for place in PACKAGES:
        house = House.of(root / place)
        print(f"{house.package}: {len(house.lines)} modules, {len(house.arrows)} arrows between modules")
        closed = back_up(house.arrows)
        print(f"  circles of modules: {circles(house.arrows) or 'none'}, {len(closed)} arrows in them")
        print(f"  {len(house.wings)} wings, {len(house.wing_arrows)} arrows between them")
        closed = back_up(house.wing_arrows)
        print(f"  circles of wings: {circles(house.wing_arrows) or 'none'}, {len(closed)} arrows in them")
        print("  modules a wing: " + ", ".join(f"{wing} {count}" for wing, count in sorted(house.wings.items())))
        print(f"  longest file: {house.longest[0]}, {house.longest[1]} lines")


if __name__ == "__main__":
    main()
