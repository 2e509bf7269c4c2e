"""A network written as a list of short words: what each stands for, and whether one fits behind the other.

Maps are square throughout, as the images are: a shape is channels × side × side.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

KERNELS = {"c": (3, 1), "v": (3, 0), "k": (5, 2), "w": (1, 0), "d": (3, 1)}  # side and padding of each convolution
POOLINGS = ("p", "a")
SIDELESS = ("gap", "gdc", "head")  # leave a map of 1×1
ACTIVATIONS = ("relu", "silu", "hardswish", "none")
WORDS = "c8 v8 k8 w8 d8 p a gap gdc se4 o2.5 head"
PATTERN = re.compile(
    r"(?P<kind>[a-z]+)(?P<number>\d+(\.\d+)?)?(?P<residual>\+)?(@(?P<label>\w+))?(:(?P<activation>\w+))?",
)


@dataclass(frozen=True)
class Item:
    """One word of a plan, such as `c16+@a:relu`."""

    kind: str
    number: float  # channels of a convolution, hidden ones of `se`, percent of `o`; 0 where there is none
    residual: bool
    label: str | None  # of the convolutions that share their weights
    activation: str | None  # where it is not that of the whole plan

    @property
    def width(self) -> int:
        return int(self.number)


@dataclass(frozen=True)
class Step:
    """An item in its place: `channels` × `side` × `side` is what comes in."""

    item: Item
    channels: int
    side: int

    @property
    def out(self) -> tuple[int, int]:
        """Channels and side of what comes out; a side below 1 where the kernel is larger than the map."""
        kind = self.item.kind
        if kind in KERNELS:
            kernel, padding = KERNELS[kind]
            return self.item.width, self.side + 2 * padding - kernel + 1
        if kind in SIDELESS:
            return 10 if kind == "head" else self.channels, 1
        return self.channels, self.side // 2 if kind in POOLINGS else self.side


def steps_of(plan: Sequence[str], channels: int = 1, side: int = 28) -> list[Step]:
    """The steps of a plan; a ValueError of one line with the item, what is wrong and the shape at that point."""
    steps: list[Step] = []
    labels: dict[str, tuple[str, int, int]] = {}
    for number, word in enumerate(plan, 1):
        try:
            step = Step(_parse(word), channels, side)
            if steps and steps[-1].item.kind == "head":
                raise ValueError("stands behind head, which is the last item")
            _check(step, labels)
        except ValueError as reason:
            raise ValueError(
                f"model.plan, item {number}, {word[:20]}, on a map of {channels}×{side}×{side}: {reason}"
            ) from None
        steps.append(step)
        channels, side = step.out
    if not steps or steps[-1].item.kind != "head":
        end = f"ends with {plan[-1][:20]}" if plan else "is empty"
        raise ValueError(
            f"model.plan {end}, at {channels}×{side}×{side}: add head as its last item, which gives the ten classes"
        )
    return steps


def _parse(word: str) -> Item:
    found = PATTERN.fullmatch(word)
    kind = found["kind"] if found else ""
    if not found or kind not in (*KERNELS, *SIDELESS, *POOLINGS, "se", "o"):
        raise ValueError(f"there is no such layer; there are {WORDS}, and behind a convolution + @a :relu, in this order")
    number = float(found["number"] or 0)
    if kind in KERNELS or kind == "se":
        if number < 1 or number != int(number):
            raise ValueError(f"needs a number of channels, such as {kind}8")
    elif kind == "o":
        if not 0 < number < 100:
            raise ValueError("needs a percentage of values to drop, such as o2.5")
    elif found["number"]:
        raise ValueError(f"takes no number; write {kind}")
    if kind not in KERNELS and (found["residual"] or found["label"] or found["activation"]):
        raise ValueError(f"+, @ and : go with a convolution; write {kind}{found['number'] or ''}")
    if found["activation"] not in (None, *ACTIVATIONS):
        raise ValueError(f"there is no such activation; use one of {', '.join(ACTIVATIONS)}")
    return Item(kind, number, bool(found["residual"]), found["label"], found["activation"])


def _check(step: Step, labels: dict[str, tuple[str, int, int]]) -> None:
    """Refuses a step that does not fit where it stands; `labels` are the shared convolutions so far."""
    item = step.item
    channels, side = step.out
    if side < 1:
        window = "the pooling" if item.kind in POOLINGS else "its kernel"
        raise ValueError(f"{window} is larger than the map; pool less, or use c, which pads")
    if item.residual and (channels, side) != (step.channels, step.side):
        raise ValueError(f"+ adds what comes in to what comes out, {channels}×{side}×{side}; give both one shape")
    if item.label:
        shared = labels.setdefault(item.label, (item.kind, step.channels, item.width))
        if shared != (item.kind, step.channels, item.width):
            raise ValueError(f"@{item.label} is a {shared[0]} from {shared[1]} to {shared[2]} channels; use another label")
