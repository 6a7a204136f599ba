"""Maximum flow and minimum cut of a small graph."""

from collections import deque

INFINITE = 1 << 60


class Flow:
    """Maximum flow by shortest augmenting paths (Edmonds, Karp, 1972): the graphs have some hundred vertices."""

    def __init__(self) -> None:
        self.room: dict = {}

    def edge(self, start: object, end: object, capacity: int) -> None:
        """Add room from start to end."""
        self.room.setdefault(start, {}).setdefault(end, 0)
        self.room.setdefault(end, {}).setdefault(start, 0)
        self.room[start][end] = min(INFINITE, self.room[start][end] + capacity)

    def push(self, source: object, sink: object) -> int:
        """Fill the graph; the size of the flow, INFINITE when nothing bounds it."""
        total = 0
        while path := self._path(source, sink):
            amount = min(self.room[start][end] for start, end in path)
            if amount >= INFINITE:
                return INFINITE
            for start, end in path:
                if self.room[start][end] < INFINITE:
                    self.room[start][end] -= amount
                if self.room[end][start] < INFINITE:
                    self.room[end][start] += amount
            total += amount
        return total

    def _path(self, source: object, sink: object) -> list[tuple]:
        """A shortest way with room, as edges."""
        before: dict = {source: None}
        todo = deque([source])
        while todo and sink not in before:
            vertex = todo.popleft()
            for end, room in self.room.get(vertex, {}).items():
                if room > 0 and end not in before:
                    before[end] = vertex
                    todo.append(end)
        path = []
        vertex = sink if sink in before else source
        while before[vertex] is not None:
            path.append((before[vertex], vertex))
            vertex = before[vertex]
        return path

    def reaches(self, sink: object) -> set:
        """The vertices from which the sink can still be reached."""
        seen, todo = {sink}, [sink]
        while todo:
            end = todo.pop()
            for start in self.room.get(end, {}):
                if start not in seen and self.room[start][end] > 0:
                    seen.add(start)
                    todo.append(start)
        return seen
