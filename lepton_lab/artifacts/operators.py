"""The operators that a graph in an artifact may hold: arithmetic on tensors, and nothing that reaches beyond them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..errors import LabError

# Of torch.ops.aten, with any overload that returns new tensors. What reads files (from_file), gives memory that holds
# what was there before (empty), looks past a tensor's own elements (as_strided), skips the check of an index
# (_unsafe_index) or draws at random is left out, and so is all that nobody asked for yet.
ALLOWED = """
    abs acos acosh add addcdiv addcmul addmm alias all amax amin any arange argmax argmin asin asinh atan atan2 atanh
    adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d avg_pool2d avg_pool3d
    baddbmm bitwise_and bitwise_not bitwise_or bitwise_xor bmm bucketize
    cat ceil celu chunk clamp clamp_max clamp_min clone constant_pad_nd contiguous conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d convolution copy cos cosh cumprod cumsum
    detach diagonal div dot einsum elu embedding eq erf exp expand expand_as expm1 eye
    fill flatten flip floor floor_divide fmod full full_like
    gather ge gelu glu group_norm gt hardsigmoid hardswish hardtanh
    index index_put index_select instance_norm isfinite isinf isnan
    layer_norm le leaky_relu lerp lift_fresh_copy linear linspace log log10 log1p log2 log_sigmoid log_softmax
    _log_softmax logical_and logical_not logical_or logical_xor logsumexp lt
    masked_fill matmul max max_pool1d max_pool2d max_pool3d maximum mean min minimum mish mm movedim mul mv
    native_group_norm native_layer_norm _native_batch_norm_legit_no_training ne neg new_full new_ones new_zeros norm
    ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu prod
    reciprocal reflection_pad1d reflection_pad2d relu relu6 remainder repeat repeat_interleave replication_pad1d
    replication_pad2d reshape rms_norm roll round rsqrt rsub
    scalar_tensor scatter scatter_add scaled_dot_product_attention select select_scatter
    selu sigmoid sign silu sin sinh size slice slice_scatter softmax _softmax softplus split split_with_sizes sqrt
    squeeze stack std sub sum sym_numel sym_size
    t tan tanh tile to _to_copy topk transpose tril triu type_as unbind unflatten unfold unsqueeze _unsafe_view
    upsample_bilinear2d upsample_nearest2d var var_mean vector_norm linalg_vector_norm view view_as
    where zeros zeros_like
"""
ATEN = frozenset(ALLOWED.split())

# Of whole numbers: sizes, and what is computed from them.
WHOLE: dict[str, Callable[..., Any]] = {
    "int.add": operator.add,
    "int.sub": operator.sub,
    "int.mul": operator.mul,
    "int.floordiv": operator.floordiv,
    "int.mod": operator.mod,
    "int.neg": operator.neg,
    "int.max": max,
    "int.min": min,
    "getitem": operator.getitem,
}


def find(name: str) -> Callable[..., Any]:
    """
    The function of an operator's name, such as "conv2d.default" or "int.mul".

    Raises
    ------
    LabError
        If it is not one that an artifact may hold.
    """
    import torch

    if name in WHOLE:
        return WHOLE[name]
    base, _, overload = name.partition(".")
    if base in ATEN:
        packet = getattr(torch.ops.aten, base)
        if overload in packet.overloads():
            found = getattr(packet, overload)
            if not found._schema.is_mutable:
                return found
    raise LabError(f"operator {name[:60]!r} is not among those that an artifact may hold")
