"""The sizes of a model without the model: it is built, and no memory is taken for its weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# what fills new weights
DRAWS = {
    "normal_",
    "uniform_",
    "erfinv_",
    "mul_",
    "add_",
    "clamp_",
    "fill_",
    "fill_diagonal_",
    "zero_",
}  # what fills new weights


@contextmanager
def sizes_only() -> Iterator[None]:
    """What is built within has shapes and no values. It takes milliseconds as long as nothing computes with tensors of
    torch's meta device, which would load torch's compiler for seconds; `placed` is for what has to be computed."""
    with torch.device("meta"), _WithoutValues():
        yield


class _WithoutValues(TorchFunctionMode):
    """There are no values to draw."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        given = [*args, *(kwargs or {}).values()]
        if getattr(func, "__name__", "") in DRAWS and isinstance(given[0], Tensor) and given[0].is_meta:
            return given[0]
        return func(*args, **(kwargs or {}))


def placed(values: Tensor, device: torch.device | None = None) -> Tensor:
    """What was computed on the CPU, on a device; None: on that where models are built."""
    return values.to(device or torch.get_default_device())
