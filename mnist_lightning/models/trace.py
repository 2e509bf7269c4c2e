"""What runs in a forward pass: torch's layers, and the functions between them as the network's `forward` calls them.

Works for every `forward`, with branches and loops, since it looks at one pass and not at the code.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mnist_lightning.models.receptive_field import Field, Window, merged, sides_of, window_of

POINTS = ((1, 1), (0, 0))  # sides of what has one value a channel: of a 1×1 map, and of one on its way to a vector


@dataclasses.dataclass
class Call:
    """A layer or a function of one pass."""

    name: str
    params: list[nn.Parameter]  # that it was given
    inputs: list[Tensor] = dataclasses.field(default_factory=list)  # what it read of those before; may hold one twice
    outputs: list[Tensor] = dataclasses.field(default_factory=list)
    windows: list[Window] = dataclasses.field(default_factory=list)
    field: Field | None = None  # of its output; None where that is no map, as behind a flatten
    flops: int = 0  # of convolutions and products of matrices, for all images
    computes: bool = False  # and does not only look at the same numbers in another shape
    by_value: bool = True  # each value of its output depends on one of each input: it could be written over that


def calls(net: nn.Module, images: Tensor) -> list[Call]:
    """The layers and functions of a pass over images, in order; the last one stands for what ran in none of them."""
    operators = _Operators(images)
    functions = _Functions(operators)
    with evaluating(net), _one_operator_at_a_time(), operators.counter, operators, functions:
        net(images)
    operators.outside.flops = operators.counter.get_total_flops() - sum(call.flops for call in functions.calls)
    return [*functions.calls, operators.outside]


@contextlib.contextmanager
def _one_operator_at_a_time() -> Iterator[None]:
    """Without the fused paths of attention and LSTMs, which would hide the products inside."""
    mha, mkldnn = torch.backends.mha, torch.backends.mkldnn
    before = mha.get_fastpath_enabled(), mkldnn.enabled
    try:
        mha.set_fastpath_enabled(False)
        mkldnn.enabled = False  # type: ignore[assignment]
        yield
    finally:
        mha.set_fastpath_enabled(before[0])
        mkldnn.enabled = before[1]


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """A network in evaluation mode without gradients or new random numbers; afterwards every module is as it was."""
    training = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            net.eval()
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


class _Operators(TorchDispatchMode):
    """Follows the receptive field of every tensor that comes from the images."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.counter = FlopCounterMode(display=False)
        self.outside = Call("elsewhere", [])
        self.current = self.outside
        # By identity; a tensor that is kept alive shares its identity with no other.
        self.fields: dict[int, tuple[Tensor, Field | None]] = {id(images): (images, Field())}
        self.makers: dict[int, Call] = {}

    def knows(self, tensor: Any) -> bool:
        return id(tensor) in self.fields

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [one for one in _tensors((args, kwargs)) if self.knows(one)]
        if inputs:
            name, outputs = func._overloadpacket.__name__, _tensors(out)
            alias = func._schema.returns[0].alias_info if func._schema.returns else None
            is_view = alias is not None and not alias.is_write
            if not is_view and name not in ("clone", "_to_copy", "copy_", "detach"):
                self.current.computes = True
                self.current.by_value &= torch.Tag.pointwise in func.tags or "batch_norm" in name
            self.current.inputs += [one for one in inputs if self.makers.get(id(one)) is not self.current]
            window = window_of(name, args, inputs[0], outputs)
            if window:
                self.current.windows.append(window)
            for output in outputs:
                self.fields[id(output)] = output, self._field(name, is_view, window, inputs, output)
                self.makers[id(output)] = self.current
        return out

    def _field(self, name: str, is_view: bool, window: Window | None, inputs: list[Tensor], output: Tensor) -> Field | None:
        fields = [self.fields[id(one)][1] for one in inputs]
        known = [one for one in fields if one]
        if len(known) < len(fields):
            return None
        if window:
            return known[0].behind(window)
        sides = [sides_of(one) for one in inputs]
        largest = max(sides)
        if not (sides_of(output) == largest or "pad" in name or (is_view and largest in POINTS)):
            return None
        return merged(known, [one for one, side in zip(known, sides, strict=True) if side == largest])


class _Functions(TorchFunctionMode):
    """Notes every layer and every function that the network's own code calls; what those call belongs to them."""

    def __init__(self, operators: _Operators) -> None:
        super().__init__()
        self.operators = operators
        self.calls: list[Call] = []
        self.hooks: list[Any] = []
        self.layer: nn.Module | None = None  # that the current call is one of
        self.flops_before = 0

    def __enter__(self) -> "_Functions":
        hook = nn.modules.module
        self.hooks = [hook.register_module_forward_pre_hook(self._begin), hook.register_module_forward_hook(self._end)]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self.hooks:
            hook.remove()

    @property
    def inside(self) -> bool:
        return self.operators.current is not self.operators.outside

    def _open(self, name: str, params: Iterable[nn.Parameter], layer: nn.Module | None = None) -> None:
        self.layer = layer
        self.flops_before = self.operators.counter.get_total_flops()
        self.operators.current = Call(name, list(params))

    def _close(self, output: Any, always: bool) -> None:
        call, self.operators.current = self.operators.current, self.operators.outside
        call.outputs = [one for one in _tensors(output) if self.operators.knows(one)]
        if call.outputs and (always or call.computes):
            call.field = self.operators.fields[id(call.outputs[0])][1]
            call.flops = self.operators.counter.get_total_flops() - self.flops_before
            self.calls.append(call)

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        if not self.inside and is_layer(module):
            self._open(type(module).__name__, module.parameters(), module)

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.inside and self.layer is module:
            self._close(output, always=True)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs))
        if self.inside or not any(map(self.operators.knows, given)):
            return func(*args, **(kwargs or {}))
        self._open(_plain(func.__name__), [one for one in given if isinstance(one, nn.Parameter)])
        output = None
        try:
            output = func(*args, **(kwargs or {}))
        finally:
            self._close(output, always=False)
        return output


CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers or derived from one, and so a row by itself, whatever it has inside."""
    return any(kind.__module__.startswith("torch.nn.modules") and kind not in CONTAINERS for kind in type(module).__mro__)


def _plain(name: str) -> str:
    """A function's name without the underscores of operators: `__iadd__` is an addition."""
    plain = name.strip("_")
    return plain[1:] if name.startswith("__") and plain[1:] in ("add", "sub", "mul", "truediv", "matmul") else plain


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
