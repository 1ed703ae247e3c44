"""Reader of the collectives in a compiled program's text (optimised HLO)."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
# `name = shape kind(operands), attributes`; several results have their shapes in parentheses.
_INSTRUCTION = re.compile(
    rf'^\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<shapes>\([^%="]*\)|\S+) '
    rf"(?P<kind>{_KINDS})(?P<half>-start|-done)?\((?P<rest>.*)$",
    re.MULTILINE,
)
_COMMENT = re.compile(r"/\*.*?\*/")  # /*index=5*/ stands between the members of a long tuple
# Such as f32[128,9216]; the memory layout {1,0} after it does not change the number of bytes.
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


@dataclass(frozen=True)
class Transfer:
    """One array that one collective moves.

    Attributes:
      kind: all-gather, all-reduce, reduce-scatter, …
      group: devices that take part together.
      shape: of the complete array: an all-gather's result, a reduce-scatter's operand.
      itemsize: bytes of one element.
      what: name of the tensor, or the name that the program gives the operation.
      name: of the instruction; XLA puts several arrays into one.
    """

    kind: str
    group: int
    shape: tuple[int, ...]
    itemsize: int = 4
    what: str = ""
    name: str = ""

    @property
    def elements(self) -> int:
        """Returns the number of elements in the complete array."""
        return math.prod(self.shape)

    @property
    def wire_bytes(self) -> float:
        """Returns the bytes that one device of a ring sends: n = group, S = bytes of the array.

        All-gather, reduce-scatter, all-to-all: S (n − 1) ÷ n. All-reduce, which is a reduce-scatter
        and an all-gather: twice that. A permutation or broadcast: S.
        """
        size = self.elements * self.itemsize
        if self.kind.startswith("collective-"):
            return float(size)
        return size * (self.group - 1) / self.group * (2 if self.kind == "all-reduce" else 1)


def read_transfers(text: str) -> list[Transfer]:
    """Returns every array that the collectives in a program's text move, in the text's order.

    An asynchronous pair (…-start, …-done) counts once. A collective in a loop also counts once; the
    training step has none.

    Raises:
      ValueError: a collective of an unknown form.
    """
    text = _COMMENT.sub("", text)
    # jit over a mesh makes partitions, pmap would make replicas: one of the two numbers is 1.
    devices = _header(text, "num_partitions") * _header(text, "replica_count")
    started: dict[str, re.Match[str]] = {}
    found: list[Transfer] = []
    for line in _INSTRUCTION.finditer(text):
        if line["half"] == "-start":
            # Attributes stand at the start, the result's shape at the …-done.
            started[line["name"]] = line
            continue
        origin = started[_operand(line["rest"])] if line["half"] else line
        found += _arrays(origin, line["shapes"], devices)
    return found


def _header(text: str, key: str) -> int:
    """Returns a count in the program's first line; 1 if it is missing."""
    match = re.search(rf"\b{key}=(\d+)", text)
    return int(match[1]) if match else 1


def _operand(rest: str) -> str:
    """Returns the name of the …-start that a …-done refers to; its type may stand before it."""
    match = re.search(r"%([\w.-]+)\)", rest)
    if not match:
        raise ValueError(f"an asynchronous collective without its start: {rest!r}")
    return match[1]


def _arrays(line: re.Match[str], shapes: str, devices: int) -> Iterator[Transfer]:
    """Yields the arrays of one collective: `line` has its attributes, `shapes` its results."""
    kind, rest = line["kind"], line["rest"]
    group = _group_size(rest, devices)
    what = re.search(r'op_name="([^"]*)"', rest)
    for dtype, dimensions in _SHAPE.findall(shapes):
        shape = [int(x) for x in dimensions.split(",") if x]
        if kind == "reduce-scatter":
            # HLO states the shape that each device keeps; the formula takes the complete array.
            shape[_scattered(rest)] *= group
        yield Transfer(
            kind, group, tuple(shape), _itemsize(dtype), what[1] if what else "", line["name"]
        )


def _scattered(rest: str) -> int:
    match = re.search(r"\bdimensions=\{(\d+)\}", rest)
    if not match:
        raise ValueError(f"a reduce-scatter without its dimension: {rest!r}")
    return int(match[1])


def _group_size(rest: str, devices: int) -> int:
    """Returns the number of devices in a group, from any of the forms in which XLA writes groups.

    {{0,1},{2,3}} → 2; [2,4]<=[8] → 4; {} → all; since jaxlib 0.12 also the axes of a mesh:
    mesh['data'=4,'tower'=2] {'tower'} → 2.
    """
    if "source_target_pairs=" in rest:  # a permutation: pairs of devices instead of groups
        return 2
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return listed[1].count(",") + 1
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(counted[1])
    if meshed := re.search(r"replica_groups=mesh\[([^]]*)\] \{('\w+'(?:,'\w+')*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", meshed[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"\w+", meshed[2]))
    if re.search(r"replica_groups=\{\}", rest) or "replica_groups" not in rest:
        return devices
    raise ValueError(f"replica_groups of an unknown form: {rest!r}")


def _itemsize(dtype: str) -> int:
    """Returns the bytes of one element of an HLO type: f32 → 4, bf16 → 2, pred → 1."""
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1
