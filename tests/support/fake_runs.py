"""Writes run folders as training would, with made-up but plausible numbers and pictures."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.ImageFilter import GaussianBlur

CLASSES = ("background", "disc", "ring", "bar", "leaf", "water")
PALETTE = ((40, 44, 52), (230, 85, 60), (245, 190, 65), (75, 130, 215), (80, 175, 90), (70, 190, 200))
# Per method: mIoU at the end, share of pseudo-labels kept at the end (None: method without pseudo-labels).
QUALITY = {"supervised": (0.52, None), "mean_teacher": (0.585, 0.72), "unimatch": (0.663, 0.85)}
STEPS = 2000


def write_run(
    runs: Path,
    method: str = "supervised",
    seed: int = 0,
    *,
    study: str = "demo",
    data: str = "shapes",
    partition: str = "1_16",
    model: str = "deeplabv3plus_r18",
    suffix: str = "",
    overrides: list[str] | None = None,
    images: bool = False,
    n_logged: int = 40,
    result: dict[str, Any] | None = None,
    last_step: int = STEPS,
    unfinished: bool = False,
    diagnostics: bool = False,
    config: str | None = None,
) -> Path:
    """One run folder; ``result`` replaces fields of its result.json, ``unfinished`` leaves the file out."""
    name = f"seed_{seed}" + (f"_{suffix}" if suffix else "")
    folder = runs / study / data / partition / method / model / name
    folder.mkdir(parents=True)
    short = f"study: {study}\nseed: {seed}\nmax_steps: {STEPS}\nmethod:\n  ema: 0.99\n"
    (folder / "config.yaml").write_text(short if config is None else config)
    typed = [f"data={data}", f"protocol={data}/{partition}", f"method={method}", *(overrides or [])]
    (folder / "overrides.yaml").write_text("".join(f"- {line}\n" for line in typed))
    rows = metric_rows(method, seed, n_logged, last_step)
    write_metrics(folder / "metrics.csv", rows)
    if images:
        write_images(folder / "images", method, seed)
    if diagnostics:
        write_diagnostics(folder, method)
    if not unfinished:
        fields = result_fields(method, seed, rows) | {"data": data, "partition": partition, "model": model}
        fields |= {"study": study, "protocol": f"{data}/{partition}", **(result or {})}
        fields["command"] = "semiseg train " + " ".join(typed) + f" seed={seed}"
        (folder / "result.json").write_text(json.dumps(fields))
    return folder


def write_study(runs: Path, *, images: bool = True) -> None:
    """Three methods with two seeds each, a failed run and one that is still running."""
    for method in QUALITY:
        for seed in (0, 1):
            write_run(runs, method, seed, images=images and seed == 0)
    error = 'Traceback (most recent call last):\n  File "train.py", line 12\nRuntimeError: loss is nan <b>'
    failed = {"status": "failed", "error": error, "steps": 312, "miou": None, "iou_per_class": None}
    write_run(runs, "unimatch", 2, n_logged=6, last_step=312, result=failed)
    write_run(runs, "mean_teacher", 2, unfinished=True, n_logged=20, last_step=STEPS // 2)


def metric_rows(method: str, seed: int, n: int, last: int = STEPS) -> list[dict[str, float]]:
    final, kept = QUALITY[method]
    noise = np.random.default_rng([seed, len(method)])
    rows = []
    for step in np.linspace(last / n, last, n).round().astype(int):
        t = step / STEPS
        miou = final * (1 - math.exp(-4 * t)) + noise.normal(0, 0.008)
        row = {"step": int(step), "train/loss": 1.6 * math.exp(-2.5 * t) + 0.25 + noise.normal(0, 0.04)}
        row |= {"val/miou": miou, "val/miou_student": miou - 0.01, "lr/encoder": 0.001 * (1 - t) ** 0.9}
        row |= {f"val/iou/{name}": iou for name, iou in class_scores(miou).items()}
        if kept is not None:
            row |= {"val/miou_teacher": miou, "train/kept_ratio": kept * (1 - math.exp(-6 * t))}
            row |= {"pseudo/accuracy": 0.95 - 0.2 * math.exp(-5 * t) + noise.normal(0, 0.006)}
            row |= {"pseudo/coverage": 0.9 * kept * (1 - math.exp(-5 * t))}
            for name, iou in class_scores(miou).items():
                row |= {f"pseudo/precision/{name}": min(1, iou + 0.2), f"pseudo/recall/{name}": iou}
                row |= {f"train/pseudo_share/{name}": iou / (6 * miou)}
        rows.append(row)
    return rows


def class_scores(miou: float) -> dict[str, float]:
    return {name: float(np.clip(miou + 0.09 * (2.5 - i), 0, 1)) for i, name in enumerate(CLASSES)}


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def result_fields(method: str, seed: int, rows: list[dict[str, float]]) -> dict[str, Any]:
    miou = [row["val/miou"] for row in rows]
    best = int(np.argmax(miou))
    return {
        "status": "completed",
        "error": None,
        "method": method,
        "seed": seed,
        "started": f"2025-03-0{1 + seed}T10:00:00",
        "finished": f"2025-03-0{1 + seed}T10:21:40",
        "n_labeled": 16,
        "n_unlabeled": 240,
        "n_val": 64,
        "labeled_ids_sha256": "5f2a9c1be04d77aa5f2a9c1be04d77aa5f2a9c1be04d77aa5f2a9c1be04d77aa",
        "official": None,
        "steps": STEPS,
        "world_size": 1,
        "batch_labeled": 4,
        "batch_unlabeled": 0 if method == "supervised" else 4,
        "crop_size": [96, 96],
        "precision": "32-true",
        "miou": {
            "best": miou[best],
            "best_step": rows[best]["step"],
            "last": miou[-1],
            "last_student": miou[-1] - 0.01 if method != "supervised" else miou[-1],
            "last_teacher": miou[-1] if method != "supervised" else None,
        },
        "iou_per_class": class_scores(miou[best]),
        "classes_counted": len(CLASSES),
        "seconds_training": 260.0 + 300 * (method != "supervised") + 7 * seed,
        "seconds_validation": 31.0,
        "images_per_second": 61.5 - 20 * (method != "supervised") + seed,
        "peak_memory_mb": 1450.0,
        "versions": {"python": "3.11.2", "torch": "2.11.0", "pytorch_lightning": "2.6.1", "semiseg": "0.1.0"},
        "git": {"commit": "0b1c2d3e4f5a69788796a5b4c3d2e1f001122334", "dirty": seed == 1},
    }


def write_images(folder: Path, method: str, seed: int, n: int = 3, size: tuple[int, int] = (192, 144)) -> None:
    """Scenes of shapes; the predictions of a better method have fewer wrong patches."""
    folder.mkdir(parents=True)
    legend = {"classes": list(CLASSES), "palette": [list(color) for color in PALETTE]}
    (folder / "classes.json").write_text(json.dumps(legend))
    for i in range(n):
        truth = scene(np.random.default_rng(i), size)
        prediction, _ = spoiled(truth, 1 - QUALITY[method][0], np.random.default_rng([i, seed, len(method)]))
        save(folder, "val", i, image=photo(truth, i), truth=colors(truth), prediction=colors(prediction))
        if QUALITY[method][1] is not None:
            truth = scene(np.random.default_rng([i, seed, 2]), size)
            pseudo, confidence = spoiled(truth, 0.6 - QUALITY[method][1] / 2, np.random.default_rng([i, 3]))
            shades = Image.fromarray((255 * confidence).astype(np.uint8)).convert("RGB")
            save(folder, "unlabeled", i, image=photo(truth, i), pseudo=colors(pseudo), confidence=shades)
            if method == "unimatch":
                colors(truth).save(folder / f"unlabeled_{i}_truth.png")


def write_diagnostics(folder: Path, method: str) -> None:
    """As the callback of training writes it; the confidence of a better method is nearer to its accuracy."""
    quality, n = QUALITY[method][0], 200
    share = np.full((len(CLASSES),) * 2, (1 - quality) / (len(CLASSES) - 1)) + np.eye(len(CLASSES)) * (quality - 0.1)
    centers = (np.arange(n) + 0.5) / n
    pixels = (1e5 * centers**4).astype(int)
    correct = (pixels * np.clip(centers * (0.7 + 0.4 * quality), 0, 1)).astype(int)
    worst = [{"id": f"val_{i:05d}", "error": round(0.9 - 0.1 * i, 6)} for i in range(3)]
    found = {
        "step": STEPS,
        "network": "student",
        "n_images": 64,
        "classes": list(CLASSES),
        "confusion": (1e4 * share).astype(int).tolist(),
        "calibration": {
            "pixels": pixels.tolist(),
            "correct": correct.tolist(),
            "confidence_sum": (pixels * centers).tolist(),
        },
        "worst": worst,
    }
    (folder / "diagnostics.json").write_text(json.dumps(found))
    (folder / "images").mkdir(exist_ok=True)
    for i in range(len(worst)):
        truth = scene(np.random.default_rng(i), (192, 144))
        prediction, _ = spoiled(truth, 0.8, np.random.default_rng([i, 5]))
        errors = np.where((truth != prediction)[..., None], (230, 40, 40), np.asarray(photo(truth, i)) // 2)
        parts = {"image": photo(truth, i), "truth": colors(truth), "prediction": colors(prediction)}
        save(folder / "images", "worst", i, **parts, errors=Image.fromarray(errors.astype(np.uint8)))


def save(folder: Path, kind: str, index: int, **pictures: Image.Image) -> None:
    for part, picture in pictures.items():
        picture.save(folder / f"{kind}_{index}_{part}.png")


def scene(noise: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    canvas = Image.new("L", size, 0)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, size[1] - noise.integers(20, 50), *size), fill=5)
    for _ in range(7):
        label, x, y = (
            int(noise.integers(1, 5)),
            int(noise.integers(0, size[0])),
            int(noise.integers(0, size[1])),
        )
        r = int(noise.integers(12, 32))
        box = (x - r, y - r, x + r, y + r)
        if label == 1:
            draw.ellipse(box, fill=1)
        elif label == 2:
            draw.ellipse(box, outline=2, width=8)
        elif label == 3:
            draw.rectangle((x - r, y - 6, x + r, y + 6), fill=3)
        else:
            draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r // 2, y)], fill=4)
    return np.asarray(canvas)


def spoiled(truth: np.ndarray, amount: float, noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Truth with wrong patches over about ``amount`` of its area, and a confidence that is low there."""
    coarse = Image.fromarray((255 * noise.random((9, 12))).astype(np.uint8))
    field = np.asarray(coarse.resize(truth.shape[::-1], Image.Resampling.BICUBIC)) / 255
    wrong = field < np.quantile(field, amount / 2)
    confidence = np.clip(0.35 + field, 0, 1)
    return np.where(wrong, (truth + 2) % len(CLASSES), truth), confidence


def colors(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.array(PALETTE, dtype=np.uint8)[mask])


def photo(mask: np.ndarray, index: int) -> Image.Image:
    noise = np.random.default_rng(index)
    soft = np.asarray(colors(mask).filter(GaussianBlur(1.5))).astype(float)
    lit = soft * np.linspace(0.6, 1.1, mask.shape[1])[None, :, None] + noise.normal(12, 14, (*mask.shape, 1))
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8))
