"""Networks leave PyTorch: one small member of each family through torch.export and, where installed, ONNX."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from semiseg.models import Segmentor

pytestmark = pytest.mark.filterwarnings("ignore")


@torch.no_grad()
def test_torch_export_gives_the_same_logits(network: Segmentor):
    x = torch.randn(1, 3, 45, 61)
    exported = torch.export.export(copy.deepcopy(network), (x,))
    torch.testing.assert_close(exported.module()(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_onnx_gives_the_same_logits(network: Segmentor, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    x = torch.randn(1, 3, 45, 61)
    program = torch.onnx.export(copy.deepcopy(network), (x,), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "network.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), network(x), rtol=1e-3, atol=1e-3)
