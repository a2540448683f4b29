"""Encoder weights from a hub or a file; a mismatch is never silent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semiseg.errors import InputError

Convert = Callable[[dict[str, Tensor], Any], dict[str, Tensor]]
"""Renames the entries of a published file to those of the model."""

SOURCES = ("none", "package", "hub")
ALLOWED = "use none, package, hub, or the path of a .pth or .safetensors file"
WRAPPERS = ("state_dict", "model")
CLASSIFIER = ("fc.", "head.", "classifier.")  # entries of a classification network outside its backbone


def load_encoder_weights(
    model: nn.Module, path: str | Path, *, name: str, convert: Convert | None = None, beyond: Collection[str] = ()
) -> None:
    """Load a file of backbone weights into ``model``, in place.

    Args:
        model: the backbone.
        path: a ``.safetensors`` file, or any file that ``torch.load`` reads with ``weights_only=True``.
        name: name of the encoder, for error messages.
        convert: applied to the entries before they are compared.
        beyond: see :func:`load_state`.

    Raises:
        InputError: if the file is missing, unreadable, not a state dict, or does not match; the model is then not
            modified.
    """
    state = read_weights(path)
    if convert is not None:
        try:
            state = convert(state, model)
        except (KeyError, RuntimeError) as error:  # what timm's converters raise on the weights of another network
            raise InputError(f"model.weights={path} does not fit encoder '{name}': {_one_line(error)}") from error
    load_state(model, state, name=name, source=path, beyond=beyond)


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], *, name: str, source: str | Path, beyond: Collection[str] = ()
) -> None:
    """Load entries of a backbone into ``model``, in place.

    Every entry of the backbone must be present with the right shape, and nothing else except a classifier and the
    entries of ``beyond``.

    Args:
        model: the backbone.
        state: the entries.
        name: name of the encoder, for error messages.
        source: source of the entries, for error messages.
        beyond: entries of the whole network; those that the backbone lacks are ignored.

    Raises:
        InputError: if they do not match; the model is then not modified.
    """
    own = model.state_dict()
    left_out = set(beyond) - own.keys()
    state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIER) and key not in left_out}
    state = {key: fit_channels(value, own[key]) if key in own else value for key, value in state.items()}
    # Files from before PyTorch 0.4.1 lack this counter, which does nothing at BatchNorm's default momentum.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shape": reshaped}
    found = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in problems.items() if keys]
    if found:
        raise InputError(
            f"model.weights={source} does not fit encoder '{name}': {'; '.join(found)}; "
            "use weights of exactly this encoder, or choose the model.encoder that matches the file"
        )
    # Not model.load_state_dict: the encoders of segmentation_models_pytorch override it without `strict`.
    nn.Module.load_state_dict(model, state, strict=False)


def fit_channels(weight: Tensor, own: Tensor) -> Tensor:
    """The kernels of a first layer for RGB, for images of other channels; anything else as it is.

    For one channel the three kernels are summed; for N they are repeated in turn and multiplied by 3 / N, so that an
    image whose channels are equal gives what it gave as gray RGB. It is timm's rule for ``in_chans``.

    Args:
        weight: of the file, (out, 3, h, w) if it is a first layer.
        own: the weight of the model at its place, (out, N, h, w).
    """
    theirs, ours = tuple(weight.shape), tuple(own.shape)
    channels = ours[1] if len(ours) == 4 else 3
    if theirs == ours or len(theirs) != 4 or theirs[1] != 3 or theirs[:1] + theirs[2:] != ours[:1] + ours[2:]:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)


def check_weights_file(weights: str | Path) -> None:
    """Make sure that ``model.weights`` names a source, or a file that is there.

    Raises:
        InputError: it does not.
    """
    if weights not in SOURCES and not Path(weights).expanduser().is_file():
        raise InputError(f"model.weights={weights}: no such file; {ALLOWED}")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a file, unwrapping the dictionaries that training scripts put around it.

    Raises:
        InputError: if the file is missing, unreadable, or contains no state dict.
    """
    check_weights_file(path)
    file = Path(path).expanduser()
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a corrupt or foreign file can raise nearly anything
        raise InputError(f"model.weights={path} cannot be read: {_one_line(error)}; {ALLOWED}") from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"model.weights={path} contains no state dict: expected tensors by name, at the top level or under "
            f"{' or '.join(repr(wrapper) for wrapper in WRAPPERS)}"
        )
    return dict(state)


@contextmanager
def hub_errors(name: str, source: str) -> Iterator[None]:
    """Turn the many errors of an unavailable hub into one line of advice.

    Args:
        name: name of the encoder.
        source: the hub's name for its weights.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        from huggingface_hub import constants

        offline = " and HF_HUB_OFFLINE forbids the network" if constants.HF_HUB_OFFLINE else ""
        raise InputError(
            f"model.weights=hub: no pretrained weights for encoder '{name}' ({source}) in the cache "
            f"{constants.HF_HUB_CACHE}{offline}: {_one_line(error)}; fetch them on a machine with network access, "
            "or set model.weights=FILE.pth or FILE.safetensors, or model.weights=none for random weights"
        ) from error


def _first(keys: Sequence[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
