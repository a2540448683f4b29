"""Any timm network with intermediate maps; channels, strides and sizes come from timm's metadata."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from semiseg.errors import InputError, suggest
from semiseg.models.dilated import replace_dilated_depthwise
from semiseg.models.encoders.base import Encoder
from semiseg.models.encoders.mit import MIT
from semiseg.models.packaged import Normalization, package_weights
from semiseg.models.weights import hub_errors, load_encoder_weights

DINO = {
    "dinov2_s": "vit_small_patch14_dinov2",
    "dinov2_b": "vit_base_patch14_dinov2",
    "dinov2_l": "vit_large_patch14_dinov2",
    "dinov3_s": "vit_small_patch16_dinov3",
    "dinov3_b": "vit_base_patch16_dinov3",
    "dinov3_l": "vit_large_patch16_dinov3",
}
"""Our short names for timm's models."""

DYNAMIC = {"dynamic_img_size": True}
ANY_SIZE: dict[str, dict[str, bool]] = {
    "vision_transformer": DYNAMIC,
    "deit": DYNAMIC,
    "eva": DYNAMIC,
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
}
"""By timm module: arguments that let a network with a fixed image size accept other sizes."""

DILATED = ("resnet", "convnext", "efficientnet", "regnet")
"""timm modules whose networks support ``output_stride``."""

ROUNDS_UP = ("resnet", "efficientnet", "mobilenetv3", "regnet", "pvt_v2")
"""timm modules whose maps cover every pixel at any size; the others drop incomplete patches."""

NORMED = ("swin_transformer", "swin_transformer_v2")
"""timm modules whose pyramid ends with a norm that applies to the last map."""


class TimmEncoder(Encoder):
    """Selected intermediate maps of a timm model.

    Args:
        model: any timm model with ``forward_intermediates``, without its classifier.
        indices: which of its intermediate maps to return.
        size_multiple: see :class:`Encoder`.
        norm: apply the model's final norm to every map with the same number of channels (transformers).
    """

    def __init__(self, model: Any, indices: Sequence[int], *, size_multiple: int = 1, norm: bool = False):
        info = [model.feature_info[i] for i in indices]
        super().__init__([i["num_chs"] for i in info], [i["reduction"] for i in info], size_multiple)
        self.model = model
        self.indices = list(indices)
        self.norm = norm

    def forward(self, x: Tensor) -> list[Tensor]:
        """See :class:`Encoder`."""
        maps: list[Tensor] = self.model.forward_intermediates(
            x, indices=self.indices, norm=self.norm, intermediates_only=True
        )
        return maps


def build_timm(name: str, weights: str, in_channels: int, output_stride: int | None) -> TimmEncoder:
    """Build a timm network, without its classifier and other layers that the maps do not need.

    The maps are the last four of a pyramid, or those after every quarter of a plain vision transformer's blocks.
    Arguments as in :func:`build_encoder`; ``output_stride`` is passed to networks that support it.

    Raises:
        InputError: for an unknown name, a network with a fixed image size, or weights that do not match.
    """
    import timm

    full_name = timm_name(name)
    module = _module(full_name)
    arguments: dict[str, Any] = {"in_chans": in_channels, **ANY_SIZE.get(module, {})}
    if module in DILATED:
        arguments["output_stride"] = output_stride or 32
    if name in DINO:
        arguments["init_values"] = 1.0  # the authors' LayerScale; timm's 1e-5 would mute a random network
    if _config(full_name).fixed_input_size and module not in ANY_SIZE:
        raise InputError(f"model.encoder={name} only accepts images of one size: choose another, such as resnet50")
    if weights == "hub":
        with hub_errors(name, f"timm's {full_name}"):
            model: Any = timm.create_model(full_name, pretrained=True, num_classes=0, **arguments)
    else:
        model = timm.create_model(full_name, pretrained=False, num_classes=0, **arguments)
    reductions = [info["reduction"] for info in model.feature_info]
    plain = len(set(reductions)) == 1 and len(reductions) > 1
    indices = vit_taps(len(reductions)) if plain else range(len(reductions))[-4:]
    names = list(model.state_dict())
    model.prune_intermediate_layers(list(indices))
    if weights == "package":
        package_weights(model, full_name, names, timm_normalization(full_name))
    elif weights not in ("none", "hub"):
        load_encoder_weights(model, weights, name=name, convert=_converter(model), beyond=names)
    replace_dilated_depthwise(model)
    multiple = 1 if module in ROUNDS_UP else max(reductions)
    return TimmEncoder(model, indices, size_multiple=multiple, norm=plain or module in NORMED)


def vit_taps(depth: int) -> tuple[int, int, int, int]:
    """Indices, from 0, of the transformer blocks whose output is used: after every quarter, as in UniMatch V2.

    With 24 blocks they are 4, 11, 17 and 23, as in the code of DINOv2 and DINOv3.
    """
    first, second, third, last = (depth * i // 4 - 1 for i in (1, 2, 3, 4))
    return (4 if depth == 24 else first), second, third, last


def timm_name(name: str) -> str:
    """The validated full name of an encoder in timm.

    Raises:
        InputError: for a network or a weight tag that timm does not have.
    """
    import timm

    name = DINO.get(name, name)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise InputError(
            f"unknown model.encoder '{name}': {_nearest(architecture)}expected mit_b0 .. mit_b5, dinov2_s, dinov2_b, "
            "dinov2_l, dinov3_s, dinov3_b, dinov3_l, or timm's name of a network, such as resnet50, resnet50s, "
            "convnext_tiny, tf_efficientnet_lite0"
        )
    if tag and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise InputError(f"unknown weight tag in model.encoder '{name}': {suggest(name, tagged)}")
    return name


def timm_normalization(full_name: str) -> Normalization:
    """Mean and standard deviation that timm's weights expect; ``full_name`` as returned by :func:`timm_name`."""
    config = _config(full_name)
    return tuple(config.mean), tuple(config.std)


def _nearest(architecture: str) -> str:
    import difflib

    import timm

    close = difflib.get_close_matches(architecture, [*MIT, *DINO, *timm.list_models()], n=1)
    return f"did you mean '{close[0]}'? " if close else ""


def _module(full_name: str) -> str:
    import timm

    return str(timm.model_entrypoint(full_name.partition(".")[0]).__module__.rpartition(".")[2])


def _config(full_name: str) -> Any:
    import timm

    return timm.get_pretrained_cfg(full_name)


def _converter(model: Any) -> Callable[[dict[str, Tensor], Any], dict[str, Tensor]] | None:
    """The converter of timm for published weight files of this family; it also resizes position embeddings."""
    return getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
