"""A CUDA device that is not there: code for GPUs runs on the CPU, and what a GPU would refuse is refused.

Within `pretend_cuda()`, tensors on the device "cuda" are wrappers of CPU tensors. Each operator on them is checked (all
arguments on one device; nothing that exists for CPUs alone) and computed by the CPU. Autocast is PyTorch's own.

Stand-in for `torch.cuda.graph`: the operators of the captured block are recorded with the memory that they read and
write, and replaying runs them again. As with a true graph, capturing changes no memory that was there before and leaves
garbage in what it allocated; Python is not run again; waiting for the device or copying from or to the host is refused
while capturing; memory from outside that was freed since is not read.

What each part is for: the graph and the list of waiting operators serve the captured decoding step. The checks of
devices and the backward pass serve updates, checkpoints and evaluations of agents on a GPU: on a machine without one
nothing else shows that their tensors are all on the device.

What it cannot show: kernels that CUDA lacks or computes otherwise, streams, the memory allocator, speed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CAN_PRETEND = sys.platform == "linux" and not torch.backends.cuda.is_built()
"""Whether this PyTorch lets us: a build for CUDA would ask for a true device."""

aten = torch.ops.aten

# operators that wait for the device, besides those that return a number
_WAITING = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
}
# which may have indices on the CPU: they are copied to the device
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
_COPIES = {aten.copy_.default, aten._to_copy.default}
# besides all that are elementwise, they may have numbers (tensors without dimensions) on the CPU
_TAKES_NUMBERS = {aten.where.self, aten.masked_fill.Tensor, aten.masked_fill_.Tensor, aten.fill_.Tensor}


class Tensor(torch.Tensor):
    """A tensor on "cuda:0"; `held` is the CPU tensor that has its values."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        properties = {"dtype": held.dtype, "device": "cuda:0", "storage_offset": held.storage_offset()}
        tensor = torch.Tensor._make_wrapper_subclass(cls, held.shape, held.stride(), **properties)
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operator, types, arguments=(), keywords=None):
        raise AssertionError(f"{operator} of a tensor that outlived pretend_cuda()")

    def __repr__(self):
        return f"pretend {self.held!r}"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copy = self.detach().clone().requires_grad_(self.requires_grad)
            copy._is_param = getattr(self, "_is_param", False)
            memo[id(self)] = copy
        return memo[id(self)]

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def data_ptr(self):
        return self.held.data_ptr()

    def untyped_storage(self):
        return self.held.untyped_storage()

    def backward(self, gradient=None):
        _backward(self, torch.ones_like(self) if gradient is None else gradient)


def _is_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def _held(value):
    return value.held if isinstance(value, Tensor) else value


def _mapped(function, value):
    """Of a tensor or number, or of lists of them, as operators take and return them."""
    if isinstance(value, list | tuple):
        return type(value)([_mapped(function, item) for item in value])
    return function(value)


def _tensors(value):
    """Those in a value or in lists of them."""
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def _product(a, b, out_dtype):
    """`torch.bmm` and `torch.mm` with `out_dtype`, which CPUs do not have; the rule is that of CUDA."""
    lower = a.dtype in (torch.float16, torch.bfloat16)
    if a.dtype != b.dtype or out_dtype not in ((a.dtype, torch.float32) if lower else (a.dtype,)):
        raise RuntimeError(f"out_dtype must be the dtype of the inputs, or float32 for lower ones, got {out_dtype}")
    return torch.matmul(a.to(out_dtype), b.to(out_dtype))


_STAND_INS = {aten.bmm.dtype: _product, aten.mm.dtype: _product}


class _Device(TorchDispatchMode):
    """Checks and computes every operator.

    Attributes:
        seen: How often each operator ran on the device.
        waits: How often the host waited for the device, or copied to it.
        capturing: What is being captured, or None.
        graphs: What has been captured.
    """

    def __init__(self):
        super().__init__()
        self.seen = Counter()
        self.waits = 0
        self.capturing: Graph | None = None
        self.graphs: list[Graph] = []

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        keywords = keywords or {}
        device = keywords.get("device")
        goes_here = _is_cuda(device)
        tensors = _tensors([*arguments, *keywords.values()])
        here = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
        if not here and not goes_here:
            return operator(*arguments, **keywords)
        self._check(operator, tensors, here, goes_here, arguments, keywords)
        if device is not None:
            keywords = {**keywords, "device": torch.device("cpu")}
        compute = _STAND_INS.get(operator, operator)
        wrapper_of = {id(_held(tensor)): tensor for tensor in tensors}
        arguments = _mapped(_held, arguments)
        keywords = {name: _mapped(_held, value) for name, value in keywords.items() if name != "pin_memory"}
        if self.capturing is not None:
            self.capturing.keep(operator, arguments, keywords)
        out = compute(*arguments, **keywords)
        if self.capturing is not None:
            numbers = {id(tensor) for tensor in tensors if not isinstance(tensor, Tensor)}
            self.capturing.add(operator, compute, arguments, keywords, numbers, out)
        stays = goes_here or (device is None and bool(here))

        def wrapped(value):
            if not isinstance(value, torch.Tensor) or id(value) in wrapper_of:
                return wrapper_of.get(id(value), value)
            return Tensor(value) if stays else value

        return _mapped(wrapped, out)

    def _check(self, operator, tensors, here, goes_here, arguments, keywords):
        self.seen[str(operator)] += 1
        if operator.namespace != "aten":
            raise RuntimeError(f"{operator} has no kernel for CUDA")
        self._check_devices(operator, tensors, here, arguments)
        if reason := self._waits(operator, tensors, here, goes_here, arguments, keywords):
            self.waits += 1
            if self.capturing is not None:
                raise RuntimeError(f"operation not permitted when stream is capturing: {operator} {reason}")
        if self.capturing is not None and torch.Tag.nondeterministic_seeded in operator.tags:
            raise NotImplementedError(f"{operator}: random numbers in a graph are not pretended")

    @staticmethod
    def _check_devices(operator, tensors, here, arguments):
        if operator in _COPIES or not here:
            return
        if operator in _INDEXING:
            of, _, *values = arguments
            if not isinstance(of, Tensor):
                raise RuntimeError("indices should be either on cpu or on the device of what they index (cpu)")
            tensors = _tensors(values[:1])
        others = [tensor for tensor in tensors if not isinstance(tensor, Tensor)]
        if torch.Tag.pointwise in operator.tags or operator in _TAKES_NUMBERS or operator in _INDEXING:
            others = [tensor for tensor in others if tensor.dim() > 0]
        if others:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({operator} of {[(tuple(tensor.shape), tensor.device.type) for tensor in tensors]})"
            )

    @staticmethod
    def _waits(operator, tensors, here, goes_here, arguments, keywords):
        """Why the host waits for the device; None where it does not."""
        if operator is aten._to_copy.default:
            is_here = bool(here)
            leaves = keywords.get("device") is not None and not goes_here
            return "copies between host and device" if (is_here and leaves) or (goes_here and not is_here) else None
        if operator is aten.copy_.default:
            return "copies between host and device" if len(here) < len(tensors) else None
        if operator in _INDEXING:
            indices = [index for index in arguments[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                return "looks for what a mask selects"
            return None if len(here) == len(tensors) else "copies indices or a number to the device"
        if operator is aten.where.self:
            return None if len(here) == len(tensors) else "copies a number to the device"
        if operator in (aten.masked_fill.Tensor, aten.masked_fill_.Tensor):
            return "asks for a number" if isinstance(arguments[2], Tensor) else None
        numbers = {"bool", "number", "int", "float"}
        if operator in _WAITING or any(str(found.type).lower() in numbers for found in operator._schema.returns):
            # which kernel of attention is asked of the host alone
            return None if operator is aten._fused_sdp_choice.default else "waits for the device"
        return None


class _Outside:
    """A tensor whose memory was there before the capture: known, but not held."""

    def __init__(self, tensor):
        self._storage = StorageWeakRef(tensor.untyped_storage())
        self._dtype = tensor.dtype
        self._view = tensor.storage_offset(), tensor.shape, tensor.stride()

    def get(self):
        if self._storage.expired():
            raise AssertionError("a graph is replayed that reads or writes memory which was freed")
        storage = torch.UntypedStorage._new_with_weak_ptr(self._storage.cdata)
        return torch.empty(0, dtype=self._dtype).set_(storage, *self._view)


def _present(value):
    return value.get() if isinstance(value, _Outside) else value


class Graph:
    """Stand-in for `torch.cuda.CUDAGraph`: operators and their memory."""

    def __init__(self):
        self._calls = []
        self._made = {}  # storages that the capture allocated, by address
        self._before = {}  # what outside memory held before the capture wrote to it
        self.replays = 0

    def __len__(self):
        return len(self._calls)

    def keep(self, operator, arguments, keywords):
        """Before an operator runs: remember what it will overwrite."""
        for value, declared in zip(
            [*arguments, *keywords.values()], _declared(operator, arguments, keywords), strict=True
        ):
            if declared.alias_info is not None and declared.alias_info.is_write:
                for tensor in _tensors(value):
                    storage = tensor.untyped_storage()
                    if storage.data_ptr() not in self._made:
                        self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))

    def add(self, operator, compute, arguments, keywords, numbers, out):
        """After an operator ran; `numbers` are the arguments on the CPU, which are copied into the graph."""
        tensors = _tensors([*arguments, *keywords.values()])
        given = {id(tensor) for tensor in tensors}
        shared = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        fresh = [
            tensor
            for tensor in _tensors(out)
            if id(tensor) not in given and tensor.untyped_storage().data_ptr() not in shared
        ]
        if fresh or operator._schema.is_mutable:  # else it is a view: of memory that is there

            def remembered(value):
                is_tensor = isinstance(value, torch.Tensor)
                if is_tensor and id(value) in numbers:
                    return value.clone()
                is_outside = is_tensor and value.untyped_storage().data_ptr() not in self._made
                return _Outside(value) if is_outside else value

            given = _mapped(remembered, arguments), {name: _mapped(remembered, keywords[name]) for name in keywords}
            self._calls.append((compute, *given, fresh))
        for tensor in fresh:
            self._made[tensor.untyped_storage().data_ptr()] = tensor

    def end(self):
        """Put back what was there, and leave garbage in what was allocated: nothing has been computed yet."""
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()
        for tensor in self._made.values():
            whole = tensor.new_empty(0).set_(tensor.untyped_storage())
            whole.fill_(torch.nan if whole.dtype.is_floating_point else True if whole.dtype == torch.bool else 10**6)

    def replay(self):
        """Run the operators again on the same memory."""
        self.replays += 1
        for compute, arguments, keywords, fresh in self._calls:
            given = {name: _mapped(_present, value) for name, value in keywords.items()}
            out = compute(*_mapped(_present, arguments), **given)
            for tensor, value in zip(fresh, _tensors(out) if fresh else [], strict=True):
                tensor.copy_(value)


def _declared(operator, arguments, keywords):
    declared = operator._schema.arguments
    named = {argument.name: argument for argument in declared}
    return [*declared[: len(arguments)], *(named[name] for name in keywords)]


def _backward(root, gradient):
    """Autograd's backward pass, on this thread and without streams: the engine in C++ needs a true device."""
    waiting = Counter()
    nodes, found = [root.grad_fn], {root.grad_fn}
    while nodes:
        for node, _ in nodes.pop().next_functions:
            if node is not None:
                waiting[node] += 1
                if node not in found:
                    found.add(node)
                    nodes.append(node)
    gradients = {root.grad_fn: {root.output_nr: gradient}}
    ready = [root.grad_fn]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            given = gradients.pop(node, {})
            if hasattr(node, "variable"):
                if given:
                    _accumulate(node.variable, given[0])
                continue
            inputs = [given.get(i) for i in range(len(node._input_metadata))]
            outs = _call(node, inputs) if given else [None] * len(node.next_functions)
            for (following, index), out in zip(node.next_functions, outs, strict=True):
                if following is None:
                    continue
                if out is not None:
                    _add(gradients.setdefault(following, {}), index, out, following._input_metadata[index])
                waiting[following] -= 1
                if waiting[following] == 0:
                    ready.append(following)


def _call(node, gradients):
    outs = node.apply(*gradients) if hasattr(node, "apply") else node(*gradients)
    outs = outs if isinstance(outs, tuple) else (outs,)
    return outs[: len(node.next_functions)]


def _add(gradients, index, out, expected):
    if out.shape != torch.Size(expected.shape):
        out = out.sum_to_size(expected.shape)
    if out.device != expected.device:
        raise RuntimeError(f"Function returned a gradient on {out.device}, expected {expected.device}")
    out = out.to(expected.dtype)
    gradients[index] = gradients[index] + out if index in gradients else out


def _accumulate(leaf, gradient):
    leaf.grad = gradient.detach().clone() if leaf.grad is None else leaf.grad + gradient


class _Index(TorchFunctionMode):
    """Says "cuda:0" where "cuda" is said, and moves what is made of Python's numbers: C++ would ask for the device."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = {name: _indexed(value) for name, value in (keywords or {}).items()}
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            of, indices, *value = arguments
            indices = indices if isinstance(indices, tuple) else (indices,)
            indices = tuple(torch.tensor(i).to(of.device) if isinstance(i, list) else i for i in indices)
            arguments = (of, indices, *value)
        if function in (torch.tensor, torch.as_tensor) and _is_cuda(keywords.get("device")):
            place = keywords.pop("device")
            return function(*arguments, **keywords).to(place)
        return function(*map(_indexed, arguments), **keywords)


def _indexed(value):
    if isinstance(value, torch.device | str) and str(value) == "cuda":
        return torch.device("cuda:0")
    return value


class _Capture:
    """Stand-in for `torch.cuda.graph`."""

    def __init__(self, device, streams, graph):
        self._device, self._streams, self._graph = device, streams, graph

    def __enter__(self):
        self._before = self._streams.current
        self._streams.current = "the stream of captures"
        self._device.capturing = self._graph

    def __exit__(self, kind, error, traceback):
        self._device.capturing = None
        self._device.graphs.append(self._graph)
        self._graph.end()
        if error is not None:  # as the true one does, which then does not come to leaving the stream
            raise RuntimeError("operation failed due to a previous error during capture") from error
        self._streams.current = self._before


@contextlib.contextmanager
def pretend_cuda():
    """Let there be a device "cuda" of bfloat16; yields what happened on it (`_Device`)."""
    device = _Device()
    streams = SimpleNamespace(current="the default stream")
    stand_ins = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_current_stream_capturing": lambda: device.capturing is not None,
        "get_device_name": lambda *_: "a pretended GPU",
        "get_device_capability": lambda *_: (9, 0),
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_: None,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "max_memory_allocated": lambda *_: 0,
        "max_memory_reserved": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "current_stream": lambda *_: streams.current,
        "set_stream": functools.partial(setattr, streams, "current"),
        "CUDAGraph": Graph,
        "graph": functools.partial(_Capture, device, streams),
        "_lazy_init": lambda: None,
    }
    with contextlib.ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(_guard())
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.enter_context(device)
        stack.enter_context(_Index())
        yield device


@contextlib.contextmanager
def _guard():
    """What C++ asks for the current device and stream of "cuda": the answers of the meta device do."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    cuda, meta = 1, 14  # c10::DeviceType
    guards = (ctypes.c_void_p * (meta + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before = guards[cuda]
    guards[cuda] = guards[meta]
    try:
        yield
    finally:
        guards[cuda] = before
