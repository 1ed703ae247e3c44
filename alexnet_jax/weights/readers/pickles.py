"""What a pickled state_dict says, without running it.

`pickle.Unpickler` would not do, even with a find_class that refuses everything: seven bytes make it
take gigabytes (a large memo index), and nested tuples as a dict's key keep it busy for ever. This
machine knows the few opcodes that a state_dict needs. It has nothing to call: where a pickle asks
for one of the functions in KNOWN, it notes down a tensor or makes a dict.
"""

import io
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexnet_jax.weights.readers.arrays import Broken, quoted

LONGEST = 2**20  # bytes; AlexNet's has three thousand
ORDERED_DICT = "collections OrderedDict"
PARAMETER = "torch._utils _rebuild_parameter"
TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
STORAGES = {
    "torch HalfStorage": "float16",
    "torch FloatStorage": "float32",
    "torch DoubleStorage": "float64",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
SAVE = "save model.state_dict() and nothing else"
KNOWN = (ORDERED_DICT, PARAMETER, *TENSORS, *STORAGES)

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINSTRING", "SHORT_BINSTRING",
)  # fmt: skip
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = ("PROTO", "FRAME", "STOP")


@dataclass(frozen=True)
class Global:
    """A function or class that the pickle names, one of KNOWN."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Where numbers lie: their kind, their place in the file, and how many there are."""

    kind: str
    key: str
    count: int

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return self.count * (2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize)


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: its first element, sides, and elements from one to the next along each.

    Nothing of it is checked yet.
    """

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class Machine:
    """A pickle's stack and memo, and by key the storages that it has pointed to."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Does one opcode; raises Broken if it is not one of those that state_dicts need."""
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in VALUES:
            self.stack.append(argument)
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            items = [self.stack.pop() for _ in range(TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name in OPCODES:
            OPCODES[name](self, argument)
        elif name not in NOTHING:
            raise Broken(f"the pickle in it has the opcode {name}, which no state_dict needs")

    def mark(self, _: Any) -> None:
        """Begins a collection."""
        self._marked.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        """What has been collected since the last mark."""
        collected, self.stack = self.stack, self._marked.pop()
        return collected

    def make_tuple(self, _: Any) -> None:
        """Makes a tuple of a collection."""
        collected = tuple(self.to_mark())
        self.stack.append(collected)

    def memoize(self, index: int | None) -> None:
        """Keeps what lies on top, under an index or the next one."""
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        """Fetches what was kept."""
        self.stack.append(self._memo[index])

    def append(self, _: Any) -> None:
        """Adds one item to a list."""
        self._extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        """Adds a collection to a list."""
        self._extend(self.to_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Broken("the pickle in it adds to what is no list")
        self.stack[-1].extend(items)

    def set_item(self, _: Any) -> None:
        """Puts one item into a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_items(self, _: Any) -> None:
        """Puts a collection of keys and values into a dict."""
        self._update(self.to_mark())

    def _update(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if not isinstance(self.stack[-1], dict) or not all(isinstance(x, str | int) for x in keys):
            raise Broken("the pickle in it has a dict with keys that are neither words nor numbers")
        self.stack[-1].update(zip(keys, values, strict=True))

    def name(self, argument: str | None) -> None:
        """Names a global, in the opcode itself or by two words on the stack."""
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
            argument = f"{module} {name}" if isinstance(module, str) else ""
        if argument not in KNOWN:
            raise Broken(
                f"the pickle in it asks for {quoted(argument.replace(' ', '.'))}, which is not run",
                mend=SAVE,
            )
        self.stack.append(Global(argument))

    def persistent(self, _: Any) -> None:
        """Notes where a storage lies."""
        word, kind, key, _, count, *view = self.stack.pop()
        known = isinstance(kind, Global) and kind.name in STORAGES
        if word != "storage" or not known or not isinstance(key, str) or any(view):
            raise Broken("the pickle in it points to something that is no storage")
        if type(count) is not int or count < 0:
            raise Broken("the pickle in it has a storage of no size")
        self.storages[key] = Storage(STORAGES[kind.name], key, count)
        self.stack.append(self.storages[key])

    def reduce(self, _: Any) -> None:
        """Notes down what a known function would have made."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Broken("the pickle in it calls what is no function")
        if function.name == ORDERED_DICT:
            self.stack.append(_ordered_dict(*arguments))
        elif function.name == PARAMETER:
            self.stack.append(arguments[0])
        elif function.name in TENSORS:
            self.stack.append(Tensor(*arguments[:4]))
        else:
            raise Broken(f"the pickle in it calls {function.name.replace(' ', '.')}")

    def build(self, _: Any) -> None:
        """Leaves out an object's attributes; a state_dict has some that say its version."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise Broken("the pickle in it sets attributes of what is no dict")


OPCODES = {
    "MARK": Machine.mark,
    "TUPLE": Machine.make_tuple,
    "BINPUT": Machine.memoize,
    "LONG_BINPUT": Machine.memoize,
    "MEMOIZE": Machine.memoize,
    "BINGET": Machine.get,
    "LONG_BINGET": Machine.get,
    "APPEND": Machine.append,
    "APPENDS": Machine.appends,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_items,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.name,
    "BINPERSID": Machine.persistent,
    "REDUCE": Machine.reduce,
    "BUILD": Machine.build,
}


def _ordered_dict(pairs: Any = ()) -> dict[str, Any]:
    """An OrderedDict as Python 3 pickles it, empty; or Python 2, with its pairs."""
    if not all(isinstance(pair, list) and isinstance(pair[0], str) for pair in pairs):
        raise Broken("the pickle in it has a dict with keys that are not words")
    return dict(pairs)


def load(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """The next pickle in a stream of at most LONGEST bytes, and all storages it points to by key.

    Raises Broken for a damaged one, and for one that asks for anything else.
    """
    machine = Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except (ValueError, TypeError, LookupError) as fault:
        raise Broken("the pickle in it is damaged") from fault
    return value, machine.storages
