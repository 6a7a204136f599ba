"""Maximum flow and minimum cut of a small graph."""

from collections import deque
from collections.abc import Hashable

INFINITE = 1 << 60
Edge = tuple[Hashable, Hashable]


class Flow:
    """Maximum flow by shortest augmenting paths (Edmonds, Karp, 1972): the graphs have some hundred vertices."""

    def __init__(self) -> None:
        self.capacity: dict[Hashable, dict[Hashable, int]] = {}  # what can still flow from a vertex to another

    def edge(self, start: Hashable, end: Hashable, capacity: int) -> None:
        """Add capacity from start to end."""
        self.capacity.setdefault(start, {}).setdefault(end, 0)
        self.capacity.setdefault(end, {}).setdefault(start, 0)
        self.capacity[start][end] = min(INFINITE, self.capacity[start][end] + capacity)

    def push(self, source: Hashable, sink: Hashable) -> int:
        """Fill the graph; the size of the flow, INFINITE when nothing bounds it."""
        total = 0
        while path := self._path(source, sink):
            amount = min(self.capacity[start][end] for start, end in path)
            if amount >= INFINITE:
                return INFINITE
            for start, end in path:
                self._add(start, end, -amount)
                self._add(end, start, amount)
            total += amount
        return total

    def reaches(self, sink: Hashable) -> set[Hashable]:
        """The vertices from which the sink can still be reached."""
        seen, todo = {sink}, [sink]
        while todo:
            end = todo.pop()
            for start in self.capacity.get(end, {}):
                if start not in seen and self.capacity[start][end] > 0:
                    seen.add(start)
                    todo.append(start)
        return seen

    def _add(self, start: Hashable, end: Hashable, amount: int) -> None:
        if self.capacity[start][end] < INFINITE:
            self.capacity[start][end] += amount

    def _path(self, source: Hashable, sink: Hashable) -> list[Edge]:
        """A shortest path with capacity left, as edges from the sink back; empty when there is none."""
        edges: dict[Hashable, Edge | None] = {source: None}  # by which a vertex was reached
        todo = deque([source])
        while todo and sink not in edges:
            vertex = todo.popleft()
            for end, capacity in self.capacity.get(vertex, {}).items():
                if capacity > 0 and end not in edges:
                    edges[end] = (vertex, end)
                    todo.append(end)
        path, edge = list[Edge](), edges.get(sink)
        while edge is not None:
            path.append(edge)
            edge = edges[edge[0]]
        return path
