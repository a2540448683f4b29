"""Which parts of an encoder are trained: everything, nothing, or low-rank updates of its attention (LoRA)."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from semiseg.errors import InputError
from semiseg.models.encoders.base import Encoder

Adapt = Literal["full", "frozen", "lora"]

PROJECTIONS = ("qkv", "q", "k", "v", "kv", "q_proj", "k_proj", "v_proj", "proj")


def adapt_encoder(encoder: Encoder, adapt: Adapt, *, name: str, lora_rank: int = 16) -> None:
    """Set which parts of an encoder are trained, in place.

    Args:
        encoder: any encoder.
        adapt: ``full``: everything; ``frozen``: nothing, see :meth:`Encoder.freeze`; ``lora``: the linear layers of
            its attention get trainable low-rank updates, initialized to zero, and the rest is frozen.
        name: name of the encoder, for error messages.
        lora_rank: rank of each update; its scale is 1.

    Raises:
        InputError: for ``lora`` without peft, or on an encoder without attention.

    Source: Hu et al. 2022 (LoRA), implemented by peft.
    """
    if adapt == "frozen":
        encoder.freeze()
    elif adapt == "lora":
        _inject_lora(encoder, name, lora_rank)


def attention_layers(encoder: Encoder) -> list[str]:
    """Names of the linear layers of attention blocks: queries, keys, values and the projection after them."""
    return [
        layer
        for layer, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and (parts := layer.split("."))[-1] in PROJECTIONS and "attn" in parts[:-1]
    ]


def _inject_lora(encoder: Encoder, name: str, rank: int) -> None:
    layers = attention_layers(encoder)
    if not layers:
        raise InputError(
            f"model.adapt=lora: encoder '{name}' has no attention to adapt; use full or frozen, or a transformer"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model  # takes seconds
    except ImportError as error:
        raise InputError("model.adapt=lora needs peft, which is not installed: pip install 'semiseg[lora]'") from error
    block: Any
    for block in encoder.modules():
        if hasattr(block, "qkv_bias_separate"):  # otherwise timm uses the qkv weight without the update
            block.qkv_bias_separate = True
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), encoder)
