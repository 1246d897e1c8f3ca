"""Which numbers a user's own data may hold, and what they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor


def plain(values: Tensor, name: str) -> None:
    """Refuse the kinds of tensors that can't be cut into batches, or compared with a loss."""
    layout = str(values.layout).removeprefix("torch.")
    kinds = {
        "a tensor of the device meta, which holds no numbers; give one of the CPU": values.is_meta,
        "a nested tensor; pad it: values.to_padded_tensor(0.0)": values.is_nested,
        f"a sparse tensor ({layout}), which can't be cut into batches; give values.to_dense()": layout != "strided",
        "a quantized tensor; give values.dequantize()": values.is_quantized,
        "complex; give real numbers, such as torch.view_as_real(values)": values.is_complex(),
    }
    if why := next((why for why, refused in kinds.items() if refused), ""):
        raise SpecError(f"{name} is {why}")


def numbers(x: Tensor, name: str) -> Tensor:
    """
    Inputs in a type that batches can be made of: any float as float32, and pictures of 16 bits from 0 to 1.

    Unsigned integers that may be tokens or numbers are a SpecError.
    """
    import torch

    if x.is_floating_point():
        return x.float()
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        if x.dtype == torch.uint16 and x.ndim > 2:
            return x.float().div_(65535)
        kind = str(x.dtype).removeprefix("torch.")
        raise SpecError(
            f"{name} is {kind}, which may be tokens or numbers; make it int64 for tokens, float32 for numbers"
        )
    return x


def finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinity, with the first row that holds one."""
    # A sum needs no memory and is finite where all numbers are, but for those that are huge.
    if not values.is_floating_point() or values.sum().isfinite():
        return
    rows = values.isfinite().flatten(1).all(1) if values.ndim > 1 else values.isfinite()
    if not rows.all():
        row = int(rows.int().argmin())
        kind = "NaN" if values[row].isnan().any() else "infinity"
        count = int((~rows).sum())
        raise SpecError(
            f"{name} holds {kind} in row {row}{f' and in {count - 1} more' if count > 1 else ''}; fill such rows or "
            "drop them (for a model that takes them, give a Dataset)"
        )
