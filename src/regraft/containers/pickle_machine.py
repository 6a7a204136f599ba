"""Pickles read without executing anything: an own machine for the opcodes of protocols 0 to 5.

Python's unpickler calls what the file names, and even a restricted one can be made to allocate by a forged length or
memo index. Here a name is looked up in a table of constructors that the reader gives; whatever is not in it is refused
by name. Long strings are not copied: only located. No length is believed before it is compared with the data.
Source: the comments in Python's pickletools.py.
"""

import codecs
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from mmap import mmap
from struct import Struct, unpack, unpack_from
from struct import error as StructError
from typing import Any

from regraft.containers.pickle_objects import LongString, Name, PickledRecord, Stateful
from regraft.errors import CheckpointError

_LARGE = 1024  # strings from this length on stay where they are until they are read
# Python's own modules: no class of theirs that is not in a reader's table belongs into a checkpoint.
_REACHES_OUT = frozenset(sys.stdlib_module_names) | {"__builtin__", "nt", "commands", "urllib2", "copy_reg"}
_STOP, _LONG_PUT, _GET, _SMALL, _MARK, _TUPLE, _TEXT = b".rhK(tX"
_U32 = Struct("<I").unpack_from
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, StructError, RecursionError)


@dataclass(slots=True, eq=False)
class Machine:
    """Runs one pickle after the other.

    data         the bytes, or the mapped file
    known        "module.name" → what to make of its arguments
    persistent   what to make of a persistent id: torch's storages
    position     where the next pickle begins
    keeps        whether an object of an unknown class is kept as a Record, rather than refused: it is not made, and
                 only a class can be named so. A function that is called, and all of Python's own classes that reach
                 the system, are refused in any case
    """

    data: bytes | mmap
    known: Mapping[str, Callable[..., Any]]
    persistent: Callable[[Any], Any] | None = None
    position: int = 0
    keeps: bool = False
    refused: dict[str, None] = field(default_factory=dict)
    stack: list[Any] = field(default_factory=list)
    outer: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    kept: dict[str, None] = field(default_factory=dict)

    def load(self) -> Any:
        """The object of the pickle at `position`, which is then behind it.

        Raises CheckpointError (without a file's name) when it is damaged or names what is not known: all at once.
        """
        self.stack, self.outer, self.memo = [], [], {}
        try:
            value = self._run()
        except _DAMAGE as error:
            raise CheckpointError(f"the pickle is damaged near byte {self.position} ({error})") from error
        if self.refused:
            names = ", ".join(self.refused)
            raise CheckpointError(f"refused, because the pickle asks to run code of its own: {names}")
        return value

    def _run(self) -> Any:
        data, memo, stack, position = self.data, self.memo, self.stack, self.position
        length = len(data)
        while (code := data[position]) != _STOP:
            position += 1
            # Those that a state dict is mostly made of, in local variables: calls would take twice the time.
            if code == _LONG_PUT:
                memo[_U32(data, position)[0]] = stack[-1]
                position += 4
            elif code == _GET:
                stack.append(memo[data[position]])
                position += 1
            elif code == _SMALL:
                stack.append(data[position])
                position += 1
            elif code == _MARK:
                self.outer.append(stack)
                stack = self.stack = []
            elif code == _TUPLE:
                items, stack = tuple(stack), self.outer.pop()
                stack.append(items)
                self.stack = stack
            elif code == _TEXT and (size := _U32(data, position)[0]) < _LARGE and position + size + 4 <= length:
                stack.append(data[position + 4 : position + 4 + size].decode("utf-8", "surrogatepass"))
                position += 4 + size
            else:
                self.position = position
                _OPERATIONS[code](self)
                stack, position = self.stack, self.position
        self.position = position + 1
        return stack.pop()

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.position
        self.position = start + size
        if size < 0 or self.position > len(self.data):
            raise ValueError(f"{size} bytes are claimed, {len(self.data) - start} are left")
        return self.data[start : self.position]

    def number(self, code: str, size: int) -> int:
        """The next number, in struct's code."""
        self.position += size
        (number,) = unpack_from(code, self.data, self.position - size)
        return int(number)

    def line(self) -> bytes:
        """The text up to the end of the line: the arguments of protocol 0."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise ValueError("a line does not end")
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def string(self, size: int, coding: str) -> None:
        """Push the next `size` bytes as bytes or text, or as a LongString when they are many."""
        if size >= _LARGE:
            if size > len(self.data) - self.position:
                raise ValueError(f"{size} bytes are claimed, {len(self.data) - self.position} are left")
            self.stack.append(LongString(self.position, size, coding if coding == "utf-8" else ""))
            self.position += size
        else:
            content = self.take(size)
            self.stack.append(
                content.decode(coding, "surrogatepass" if coding == "utf-8" else "strict") if coding else content
            )

    def above_mark(self) -> list[Any]:
        """What was pushed since the last mark; the stack is as before it."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def name(self, text: str) -> None:
        """Push a global; one that is not known is refused when the pickle ends, with all others."""
        if text not in self.known and (not self.keeps or text.partition(".")[0] in _REACHES_OUT):
            self.refused[text] = None
        self.stack.append(Name(text))

    def create(self, name: object, arguments: object) -> None:
        """Push what the reader makes of an object of that class, or a PickledRecord of it."""
        if isinstance(name, Name) and name.text not in self.known:
            self.kept[name.text] = None
            self.stack.append(PickledRecord(name.text, arguments if isinstance(arguments, tuple) else ()))
        else:
            self.construct(name, arguments)

    def construct(self, name: Any, arguments: Any) -> None:
        """Push what the reader makes of a call."""
        if not isinstance(name, Name):
            raise TypeError(f"a {type(name).__name__} is called")
        if name.text not in self.known:
            self.refused[name.text] = None
        made = self.known[name.text](*arguments) if name.text in self.known else PickledRecord(name.text)
        self.stack.append(made)

    def fill(self, pairs: Iterable[tuple[object, object]]) -> None:
        """Put pairs into the dictionary on top, or among the items of an object that was not made."""
        target = self.stack[-1].items if isinstance(self.stack[-1], PickledRecord) else self.stack[-1]
        if isinstance(target, dict):
            target.update((hashable(key), value) for key, value in pairs)

    def extend(self, items: list[Any]) -> None:
        """Append items to the list on top, or to those of an object that was not made."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, PickledRecord):
            target.items.update(enumerate(items, len(target.items)))

    def build(self) -> None:
        """Give the object on top its state."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stateful):
            target.set_state(state)
        elif isinstance(target, PickledRecord):
            target.state = state


def hashable(key: object) -> Any:
    """The key, unless it is nested: hashing a tuple of a million tuples would overflow Python's own stack."""
    if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
        raise TypeError("a key is a tuple of tuples")
    hash(key)
    return key


def _in_pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _push(value: Callable[[Machine], object]) -> Callable[[Machine], None]:
    def push(machine: Machine) -> None:
        item = value(machine)  # first: it may exchange the stack
        machine.stack.append(item)

    return push


def _constant(value: object) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.above_mark()


def _put(machine: Machine) -> None:
    machine.memo[machine.take(1)[0]] = machine.stack[-1]


def _recall_long(machine: Machine) -> None:
    machine.stack.append(machine.memo[machine.number("<I", 4)])


def _text_put(machine: Machine) -> None:
    machine.memo[int(machine.line())] = machine.stack[-1]


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _tuple(count: int) -> Callable[[Machine], None]:
    def gather(machine: Machine) -> None:
        items = tuple(machine.stack[-count:])
        if len(items) < count:
            raise IndexError("the stack is empty")
        machine.stack[-count:] = [items]

    return gather


def _global(machine: Machine) -> None:
    module, name = machine.line().decode(), machine.line().decode()
    machine.name(f"{module}.{name}")


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise TypeError("a global's name is no text")
    machine.name(f"{module}.{name}")


def _reduce(machine: Machine) -> None:
    arguments, name = machine.stack.pop(), machine.stack.pop()
    machine.construct(name, arguments)


def _new_object(machine: Machine) -> None:
    arguments, name = machine.stack.pop(), machine.stack.pop()
    machine.create(name, arguments)


def _new_object_ex(machine: Machine) -> None:
    machine.stack.pop()  # keyword arguments: no class that is known takes any
    _new_object(machine)


def _instance(machine: Machine) -> None:
    _global(machine)
    name = machine.stack.pop()
    machine.construct(name, machine.above_mark())


def _object(machine: Machine) -> None:
    name, *arguments = machine.above_mark()
    machine.construct(name, arguments)


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.fill([(key, value)])


def _append(machine: Machine) -> None:
    machine.extend([machine.stack.pop()])


def _new_dict(machine: Machine) -> None:
    items = machine.above_mark()
    machine.stack.append({})
    machine.fill(_in_pairs(items))


def _persistent(machine: Machine, identity: object) -> Any:
    if machine.persistent is None:
        raise ValueError("it refers to objects outside of itself")
    return machine.persistent(identity)


def _integer(machine: Machine) -> int | bool:
    text = machine.line()
    return text == b"01" if text in (b"00", b"01") else int(text)


def _long(machine: Machine, width: int) -> int:
    return int.from_bytes(machine.take(int.from_bytes(machine.take(width), "little")), "little", signed=True)


def _quoted(machine: Machine) -> None:
    """Protocol 0's string: a Python literal; a long one stays where it is."""
    start = machine.position
    text = machine.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("a string is not quoted")
    if len(text) >= _LARGE:
        machine.stack.append(LongString(start + 1, len(text) - 2, "escape"))
    else:
        machine.stack.append(codecs.escape_decode(text[1:-1])[0].decode("latin1"))


def _sized(code: str, width: int, coding: str) -> Callable[[Machine], None]:
    return lambda machine: machine.string(machine.number(code, width), coding)


def _extend_above_mark(machine: Machine) -> None:
    machine.extend(machine.above_mark())


_OPERATIONS: dict[int, Callable[[Machine], None]] = {
    ord(code): operation
    for code, operation in {
        # stack and memo
        "0": _pop,
        "1": lambda machine: machine.above_mark() and None,
        "2": _push(lambda machine: machine.stack[-1]),
        "p": _text_put,
        "q": _put,
        "\x94": _memoize,
        "g": _push(lambda machine: machine.memo[int(machine.line())]),
        "j": _recall_long,
        # numbers and constants
        "N": _constant(None),
        "\x88": _constant(True),
        "\x89": _constant(False),
        "I": _push(_integer),
        "M": _push(lambda machine: machine.number("<H", 2)),
        "J": _push(lambda machine: machine.number("<i", 4)),
        "L": _push(lambda machine: int(machine.line().rstrip(b"L"))),
        "\x8a": _push(lambda machine: _long(machine, 1)),
        "\x8b": _push(lambda machine: _long(machine, 4)),
        "F": _push(lambda machine: float(machine.line())),
        "G": _push(lambda machine: unpack(">d", machine.take(8))[0]),
        # strings: Python 2's are read as latin1 text
        "S": _quoted,
        "T": _sized("<i", 4, "latin1"),
        "U": _sized("<B", 1, "latin1"),
        "V": _push(lambda machine: machine.line().decode("raw-unicode-escape")),
        "\x8c": _sized("<B", 1, "utf-8"),
        "X": _sized("<I", 4, "utf-8"),
        "\x8d": _sized("<Q", 8, "utf-8"),
        "C": _sized("<B", 1, ""),
        "B": _sized("<I", 4, ""),
        "\x8e": _sized("<Q", 8, ""),
        "\x96": _sized("<Q", 8, ""),
        # containers; a set is read as the list of its items
        ")": _constant(()),
        "\x85": _tuple(1),
        "\x86": _tuple(2),
        "\x87": _tuple(3),
        "]": _push(lambda machine: []),
        "l": _push(lambda machine: machine.above_mark()),
        "a": _append,
        "e": _extend_above_mark,
        "\x8f": _push(lambda machine: []),
        "\x90": _extend_above_mark,
        "\x91": _push(lambda machine: tuple(machine.above_mark())),
        "}": _push(lambda machine: {}),
        "d": _new_dict,
        "s": _set_item,
        "u": lambda machine: machine.fill(_in_pairs(machine.above_mark())),
        # objects
        "c": _global,
        "\x93": _stack_global,
        "R": _reduce,
        "\x81": _new_object,
        "\x92": _new_object_ex,
        "i": _instance,
        "o": _object,
        "b": lambda machine: machine.build(),
        "P": _push(lambda machine: _persistent(machine, machine.line().decode())),
        "Q": _push(lambda machine: _persistent(machine, machine.stack.pop())),
        # protocol and frame only help Python's own reader
        "\x80": lambda machine: machine.take(1) and None,
        "\x95": lambda machine: machine.take(8) and None,
    }.items()
}
