"""An interpreter of pickled state_dicts that executes nothing in them.

`pickle.Unpickler` is not safe enough, even with a find_class that refuses everything: seven bytes
make it allocate gigabytes (a large memo index), and nested tuples as a dict's key keep it busy
forever. The interpreter in this file knows the few opcodes that checkpoints need and calls nothing.
For a function in KNOWN it records a tensor or makes a dict. Objects of the libraries in INERT, such
as a training script's arguments, become placeholders without content. Everything else is refused.
"""

import io
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from alexnet_jax.weights.readers.arrays import Broken, quoted

LONGEST = 2**18  # bytes of a pickle; AlexNet's state_dict has 3,000, with an optimizer 10,000
LARGEST_KEY = 2**32  # of an integer key of a dict; larger ones can be made to collide
PLACE_FIELDS = 6  # of a storage: "storage", type, key, device, size, before PyTorch 1.6 a view
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
INERT = (  # top-level packages whose objects checkpoints of training scripts contain
    "argparse", "collections", "lightning", "lightning_fabric", "numpy", "omegaconf", "pathlib",
    "pytorch_lightning", "torch", "_codecs",
)  # fmt: skip
BUILTINS = ("dict", "frozenset", "list", "set")  # inert as well; Python 2's name is __builtin__

# The opcodes by their effect, under the names of pickletools.
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINSTRING", "SHORT_BINSTRING",
)  # fmt: skip
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = ("PROTO", "FRAME", "STOP")  # they change neither the stack nor the memo


@dataclass(frozen=True)
class Global:
    """A function or class that the pickle names: "module name"."""

    name: str


@dataclass(frozen=True)
class Inert:
    """A placeholder for an object of the named class, without its content."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A block of numbers in the file: their kind, the block's key, and how many there are."""

    kind: str
    key: str
    count: int

    @property
    def bytes(self) -> int:
        """Returns the block's size in the file."""
        # NumPy has no bfloat16.
        return self.count * (2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize)


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage, as the pickle states it; nothing is checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class Interpreter:
    """The stack and the memo of a pickle, and the storages that it refers to, by key.

    The work is bounded by the pickle's length: an opcode handles items that it takes off the stack,
    a bounded number of others, or (OrderedDict) items that are counted.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self.stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}  # a list would be as long as its largest index
        self._opcodes = 0
        self._pairs = 0  # handed to OrderedDict so far

    def step(self, name: str, argument: Any) -> None:
        """Interprets one opcode; raises Broken if it is not one that checkpoints need."""
        self._opcodes += 1
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
        self._outer_stacks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        """Returns the items since the last mark and takes them off the stack."""
        collected, self.stack = self.stack, self._outer_stacks.pop()
        return collected

    def make_tuple(self, _: Any) -> None:
        """Makes a tuple of the items since the last mark."""
        collected = tuple(self.pop_to_mark())
        self.stack.append(collected)

    def memoize(self, index: int | None) -> None:
        """Stores the top of the stack in the memo, under an index or the next free one."""
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        """Pushes an item from the memo."""
        self.stack.append(self._memo[index])

    def append(self, _: Any) -> None:
        """Adds the top of the stack to the list below it."""
        self._extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        """Adds the items since the last mark to the list below them."""
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], Inert):
            return  # a placeholder keeps no content
        if not isinstance(self.stack[-1], list):
            raise Broken("the pickle in it adds to what is no list")
        self.stack[-1].extend(items)

    def set_item(self, _: Any) -> None:
        """Puts a key and a value into the dict below them."""
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_items(self, _: Any) -> None:
        """Puts the keys and values since the last mark into the dict below them."""
        self._update(self.pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], Inert):
            return
        keys, values = items[::2], items[1::2]
        if not isinstance(self.stack[-1], dict) or not all(map(_is_key, keys)):
            raise Broken("the pickle in it has a dict with keys that are neither words nor numbers")
        self.stack[-1].update(zip(keys, values, strict=True))

    def push_global(self, argument: str | None) -> None:
        """Pushes a function or class, named by the opcode itself or by two words on the stack."""
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
            argument = f"{module} {name}" if isinstance(module, str) else ""
        if argument not in KNOWN and not _is_inert(argument):
            raise Broken(
                f"the pickle in it asks for {quoted(argument.replace(' ', '.'))}, which is not run",
                mend=SAVE,
            )
        self.stack.append(Global(argument))

    def push_storage(self, _: Any) -> None:
        """Records a storage: its kind, its key in the file and its number of elements."""
        place = self.stack.pop()
        if not isinstance(place, tuple) or not 5 <= len(place) <= PLACE_FIELDS:
            raise Broken("the pickle in it points to something that is no storage")
        word, kind, key, _, count, *view = place
        known = isinstance(kind, Global) and kind.name in STORAGES
        # A `view` would be a part of another storage; it is refused below.
        if word != "storage" or not known or not isinstance(key, str) or any(view):
            raise Broken("the pickle in it points to something that is no storage")
        if type(count) is not int or count < 0:
            raise Broken("the pickle in it has a storage of no size")
        self.storages[key] = Storage(STORAGES[kind.name], key, count)
        self.stack.append(self.storages[key])

    def reduce(self, _: Any) -> None:
        """Records the result that a known function would have; makes a placeholder for others."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Broken("the pickle in it calls what is no function")
        if function.name == ORDERED_DICT:
            self.stack.append(self._ordered_dict(arguments))
        elif function.name == PARAMETER:
            self.stack.append(arguments[0])
        elif function.name in TENSORS:
            self.stack.append(Tensor(*arguments[:4]))
        else:
            self.stack.append(Inert(function.name))

    def _ordered_dict(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """Makes an OrderedDict: empty, as Python 3 pickles it, or of pairs, as Python 2 does."""
        if not arguments:
            return {}
        (pairs,) = arguments
        self._pairs += len(pairs)
        if self._pairs > self._opcodes:  # every pair took an opcode to make, so some are reused
            raise Broken("the pickle in it uses the same pairs for several dicts")
        if not all(isinstance(pair, list) and isinstance(pair[0], str) for pair in pairs):
            raise Broken("the pickle in it has a dict with keys that are not words")
        return dict(pairs)

    def make_object(self, _: Any) -> None:
        """Makes a placeholder for an object of a class."""
        _, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Global):
            raise Broken("the pickle in it makes an object of what is no class")
        self.stack.append(Inert(kind.name))

    def build(self, _: Any) -> None:
        """Drops an object's attributes; a state_dict has some that state its version."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict | Inert):
            raise Broken("the pickle in it sets attributes of what is no dict")


OPCODES = {
    "MARK": Interpreter.mark,
    "TUPLE": Interpreter.make_tuple,
    "BINPUT": Interpreter.memoize,
    "LONG_BINPUT": Interpreter.memoize,
    "MEMOIZE": Interpreter.memoize,
    "BINGET": Interpreter.get,
    "LONG_BINGET": Interpreter.get,
    "APPEND": Interpreter.append,
    "APPENDS": Interpreter.appends,
    "SETITEM": Interpreter.set_item,
    "SETITEMS": Interpreter.set_items,
    "GLOBAL": Interpreter.push_global,
    "STACK_GLOBAL": Interpreter.push_global,
    "BINPERSID": Interpreter.push_storage,
    "REDUCE": Interpreter.reduce,
    "NEWOBJ": Interpreter.make_object,
    "BUILD": Interpreter.build,
}


def _is_inert(argument: str) -> bool:
    """True for a "module name" that becomes a placeholder."""
    module, _, name = argument.partition(" ")
    if module in ("builtins", "__builtin__"):
        return name in BUILTINS
    return module.split(".")[0] in INERT


def _is_key(key: Any) -> bool:
    """True for a string or an integer that a dict finds in constant time."""
    # Strings cannot be made to collide: Python seeds their hash differently in each process.
    return isinstance(key, str) or (isinstance(key, int) and 0 <= key < LARGEST_KEY)


def load(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """Reads the next pickle of a stream of at most LONGEST bytes.

    Returns:
      Its value, made of dicts, lists, tuples, strings, numbers, Tensor and Inert; and all storages
      that it refers to, by key.

    Raises:
      Broken: it is damaged, or asks for anything else.
    """
    interpreter = Interpreter()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            interpreter.step(opcode.name, argument)
        (value,) = interpreter.stack
    except (ValueError, TypeError, LookupError) as fault:
        raise Broken("the pickle in it is damaged") from fault
    return value, interpreter.storages
