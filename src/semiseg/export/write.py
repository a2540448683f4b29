"""One export: the model file, the comparison with PyTorch, a program that runs it, and the model card."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from semiseg.config.settings import Settings
from semiseg.errors import InputError
from semiseg.export import onnx, openvino, torch_program
from semiseg.export.formats import Format
from semiseg.export.graph import Graph, trace
from semiseg.export.parity import N_IMAGES, Parity, compare
from semiseg.export.templating import TEMPLATES
from semiseg.runs.files import file_sha256, write_json, write_text
from semiseg.training.assemble import list_data
from semiseg.training.predictor import Predictor

FORMATS = {"onnx": onnx, "torch": torch_program, "openvino": openvino}


SAME = 0.999
"""Share of equal pixels below which a file is rejected in favor of one with fewer dynamic axes."""


class Exported(TypedDict):
    """The written export. ``facts`` are also stored in the file itself."""

    format: Format
    file: str
    facts: dict[str, Any]
    parity: Parity


def export(
    predictor: Predictor,
    settings: Settings,
    checkpoint: Mapping[str, Any],
    path: Path,
    format: Format,
    folder: Path,
    *,
    normalize: bool = False,
    argmax: bool = False,
) -> Exported:
    """Export the network of a checkpoint for other programs.

    Args:
        predictor: holds the network, on the CPU.
        settings: settings of the checkpoint.
        checkpoint: the loaded checkpoint.
        path: path of the checkpoint.
        format: file format.
        folder: output folder; created if missing.
        normalize: the model takes raw RGB, uint8.
        argmax: the model returns the class of each pixel, not logits.

    Raises:
        InputError: the packages of the format are not installed, or the network cannot be exported.
    """
    if predictor.channels != 3:
        raise InputError(f"export supports images with three channels, this model takes {predictor.channels}")
    graph = Graph(
        copy.deepcopy(predictor.network), predictor.mean, predictor.std, normalize=normalize, argmax=argmax
    ).eval()
    module = FORMATS[format]
    folder.mkdir(parents=True, exist_ok=True)
    failure: Exception | None = None
    for program, axes in trace(graph, settings.crop_size):
        size = None if "height" in axes else list(settings.crop_size)
        facts = {
            **facts_of(settings, checkpoint, path),
            "normalize": normalize,
            "argmax": argmax,
            "free_axes": list(axes),
            "size": size,
            **module.FACTS,
        }
        try:
            module.write(program, facts, folder)
            images, source = _images(settings, size)
            parity = compare(graph, module.open_file(folder), images, source)
            if axes and parity["equal_pixels"] < SAME:
                raise ValueError(f"only {parity['equal_pixels']:.4f} of the pixels equal those of PyTorch")
        except InputError:
            raise
        except Exception as e:  # an unsupported or wrong operation: fewer dynamic axes may avoid it
            failure = e
            continue
        break
    else:
        why = f": {type(failure).__name__}: {str(failure).splitlines()[0][:200]}" if failure else ""
        raise InputError(f"model={settings.model} cannot be exported to {format}{why}")
    found = Exported(format=format, file=module.FILE, facts=facts, parity=parity)
    write_json(folder / f"{format}.json", found)
    write_text(folder / f"run_{format}.py", TEMPLATES.get_template(f"run_{format}.py.jinja").render(file=module.FILE))
    return found


def facts_of(settings: Settings, checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Metadata about the network, the same for every format."""
    info = checkpoint["semiseg"]
    return {
        **{key: info[key] for key in ("classes", "palette", "mean", "std")},
        "value_range": info.get("value_range"),
        "eval": settings.evaluation,
        "method": settings.method,
        "model": settings.model,
        "protocol": settings.protocol,
        "step": int(checkpoint["global_step"]),
        "checkpoint_sha256": file_sha256(path),
        "data_fingerprint": (info.get("data") or {}).get("digest"),
    }


def _images(settings: Settings, size: list[int] | None) -> tuple[list[np.ndarray], str]:
    """Images of the run, validation images first, or noise if its data is not available."""
    images: list[np.ndarray] = []
    source = "noise: the data of the run is not there"
    with contextlib.suppress(InputError):
        data = list_data(settings)
        ids = [*data.val_ids, *data.partition.labeled, *data.partition.unlabeled][:N_IMAGES]
        images, source = [data.dataset.load_image(i) for i in ids], f"images of {settings.protocol}"
    if not images:
        draw = np.random.default_rng(0)
        images = [draw.integers(0, 256, (*settings.crop_size, 3), np.uint8) for _ in range(N_IMAGES)]
    if size is None:  # various sizes, including odd ones
        return [image[i % 2 :, i % 3 :] for i, image in enumerate(images)], source
    return [_resized(image, size) for image in images], source


def _resized(image: np.ndarray, size: list[int]) -> np.ndarray:
    if list(image.shape[:2]) == size:
        return image
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", antialias=True)
    return found[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
