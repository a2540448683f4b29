from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from semiseg.methods.allspark import AllSpark
from semiseg.models import deeplabv3plus, segformer, tiny
from semiseg.models.allspark import BridgedSegmentor, ChannelAttentionBridge
from semiseg.models.decoders import SegFormerDecoder
from semiseg.models.encoders import build_encoder
from support.helpers import make_parts, two_processes

C, K, SIZE = 8, 3, (4, 5)


def make_bridge(**options) -> ChannelAttentionBridge:
    return ChannelAttentionBridge(C, K, SIZE, **{"dropout": 0.0, **options})


def make_maps(n: int = 5, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(n, C, *size)


def make_scores(n: int = 3) -> Tensor:
    return torch.randn(n, K, 16, 20)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in module.named_buffers()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(x, before[name]) for name, x in module.named_buffers())


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameter_counts_of_the_paper(sketch: None):
    assert parameters(ChannelAttentionBridge(512, 21, (17, 17))) == 4_721_664
    assert parameters(SegFormerDecoder((64, 128, 320, 512)), nn.Conv2d(768, 21, 1)) == 3_166_485
    assert round(parameters(build_encoder("mit_b5")) / 1e6, 3) == 81.443


def literal(bridge: ChannelAttentionBridge, x: Tensor, n_l: int, sources: Tensor | None) -> Tensor:
    """The spec's formulas, image by image: channels as columns, one score matrix at a time; no dropout."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # (N, m), (N, n), (N, n) to (m, N)
        s = q.T @ k
        s = (s - s.mean()) / (s.var(unbiased=False) + 1e-5).sqrt()
        return s.softmax(1) @ v.T

    embedded = [F.gelu(bridge.map_in(m[None]))[0].flatten(1).T for m in x]
    tokens = [bridge.norm_in(e) for e in embedded]
    maps = list(sources.mT) if sources is not None else tokens[n_l:]
    rows = []
    for i, t in enumerate(tokens):
        if i < n_l:
            k, v = (torch.cat([p(m) for m in maps], dim=1) for p in (bridge.cross.k, bridge.cross.v))
            rows.append(bridge.cross.out(attention(bridge.cross.q(t), k, v).T))
            continue
        q, k, v = (p(t) for p in (bridge.within.q, bridge.within.k, bridge.within.v))
        heads = [attention(*(y[:, h * C : (h + 1) * C] for y in (q, k, v))) for h in range(q.shape[1] // C)]
        columns = torch.empty(q.shape)
        for c in range(C):
            for h in range(len(heads)):
                columns[:, len(heads) * c + h] = heads[h][c]
        rows.append(bridge.within.out(columns))
    maps = [bridge.norm_out(r + e).T.unflatten(1, x.shape[2:]) for r, e in zip(rows, embedded)]
    return F.gelu(bridge.map_out(torch.stack(maps)))


@pytest.mark.parametrize("n_l,heads,read", [(2, 2, False), (2, 2, True), (1, 3, True), (4, 1, False)])
def test_training_against_the_formulas(n_l: int, heads: int, read: bool):
    bridge = make_bridge(heads=heads).train()
    x = make_maps().requires_grad_()
    ours = bridge(x, n_l, make_scores(5 - n_l), read_memory=read)
    theirs = literal(bridge, x, n_l, bridge.memory.mem if read else None)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weight, inputs = torch.randn_like(ours), [x, *bridge.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, theirs))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().clamp(min=1).item())


@pytest.mark.parametrize("joint", [False, True])
@torch.no_grad()
def test_inference_against_the_formulas(joint: bool):
    bridge, x = make_bridge().eval(), make_maps(3, (7, 3))
    groups = [x] if joint else list(x[:, None])
    twice = [literal(bridge, torch.cat([g, g]), len(g), None)[: len(g)] for g in groups]
    torch.testing.assert_close(bridge(x, joint=joint), torch.cat(twice), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["q", "k"])
@torch.no_grad()
def test_the_scale_of_queries_and_keys_does_not_matter(name: str):
    bridge = make_bridge().train()
    for branch in (bridge.cross, bridge.within):
        for projection in (branch.q, branch.k):
            projection.weight.mul_(10)  # far above the epsilon of the norm
    before, x, scores = copy.deepcopy(bridge), make_maps(), make_scores()
    for branch in (bridge.cross, bridge.within):
        getattr(branch, name).weight.mul_(37.0)
    for read in (False, True):
        torch.testing.assert_close(
            bridge(x, 2, scores, read_memory=read), before(x, 2, scores, read_memory=read), rtol=1e-4, atol=1e-5
        )


def test_gradients_go_where_the_paper_lets_them():
    bridge = make_bridge().train()
    for read in (False, True):
        x = make_maps().requires_grad_()
        out = bridge(x, 2, make_scores(), read_memory=read)
        (of_labeled,) = torch.autograd.grad(out[:2].square().sum(), x, retain_graph=True)
        (of_unlabeled,) = torch.autograd.grad(out[2:].square().sum(), x, retain_graph=True)
        assert of_labeled[:2].any() and of_unlabeled[2:].any()
        assert of_labeled[2:].any() != read  # the memory is read without a gradient to its content ...
        assert not of_unlabeled[:2].any()
        keys = (bridge.cross.k.weight, bridge.cross.v.weight)
        assert all(g.any() for g in torch.autograd.grad(out[:2].square().sum(), keys))  # ... but with one to these
        assert of_unlabeled[2].any() and not torch.equal(of_unlabeled[2], of_unlabeled[3])


def test_every_parameter_gets_a_gradient():
    for read in (False, True):
        bridge = make_bridge(dropout=0.1).train()
        bridge(make_maps(2), 1, make_scores(1), read_memory=read).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in bridge.parameters())


@torch.no_grad()
def test_the_memory_is_updated_before_it_is_read():
    bridge = make_bridge().train()
    x, scores, before = make_maps(), make_scores(), state(bridge)
    first = bridge(x, 2, scores, read_memory=True)
    assert bridge.memory.filled.sum() > 0 and not unchanged(bridge, before)
    bridge.memory.load_state_dict({name.removeprefix("memory."): x for name, x in before.items()})
    x[2:] += torch.randn_like(x[2:])
    assert not torch.allclose(bridge(x, 2, scores, read_memory=True)[:2], first[:2])


@torch.no_grad()
def test_the_memory_holds_tokens_by_class_and_says_how_full_it_is():
    bridge = make_bridge().train()
    x, scores = make_maps(), make_scores()
    tokens = bridge.norm_in(F.gelu(bridge.map_in(x[2:])).flatten(2).mT).mT  # (3, C, N)
    noise = bridge.memory.mem.clone()
    maps = F.interpolate(scores, SIZE, mode="bilinear", align_corners=False).flatten(2)
    expected = [[] for _ in range(K)]
    for b in range(3):
        for c in range(C):
            cosine = [F.cosine_similarity(maps[b, k], tokens[b, c], dim=0) for k in range(K)]
            expected[int(torch.stack(cosine).argmax())].append(tokens[b, c])
    bridge(x, 2, scores)
    for k, entries in enumerate(expected):
        slots = noise[k].clone()
        for i, entry in enumerate(entries):
            slots[i % C] = entry
        torch.testing.assert_close(bridge.memory.mem[k], slots)
        assert bridge.memory.filled[k] == min(len(entries), C) and bridge.memory.ptr[k] == len(entries) % C
    filled = sum(min(len(entries), C) for entries in expected)
    torch.testing.assert_close(bridge.memory.filled_ratio(), torch.tensor(filled / (K * C)))


@torch.no_grad()
def test_inference_leaves_the_buffers_alone_whatever_the_mode():
    bridge = make_bridge()
    before = state(bridge)
    for training in (False, True):
        bridge.train(training)
        bridge(make_maps())
        bridge(make_maps(), joint=True)
    assert unchanged(bridge, before)


@torch.no_grad()
def test_images_meet_at_inference_only_if_asked_to():
    bridge = make_bridge(dropout=0.5).eval()
    x, y = make_maps(2)[:, None]
    alone = bridge(x)
    torch.testing.assert_close(bridge(torch.cat([x, x]), joint=True)[:1], alone, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(bridge(torch.cat([x, y]), joint=True)[:1], alone)
    torch.testing.assert_close(bridge(torch.cat([x, y]))[:1], alone, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_each_branch_serves_its_own_images():
    bridge, x, scores = make_bridge().train(), make_maps(), make_scores()
    inference, training = bridge(x), bridge(x, 2, scores)
    for branch, at_inference, half in ((bridge.within, False, slice(2, 5)), (bridge.cross, True, slice(0, 2))):
        kept = copy.deepcopy(branch.state_dict())
        for p in branch.parameters():
            p.add_(torch.randn_like(p))
        moved = bridge(x, 2, scores) != training
        assert moved[half].any() and moved.sum() == moved[half].sum()
        assert torch.equal(bridge(x), inference) != at_inference
        branch.load_state_dict(kept)


def test_dropout_in_training_mode_only():
    bridge = make_bridge(dropout=0.5)
    x, scores = make_maps(), make_scores()
    assert not torch.equal(bridge(x, 2, scores), bridge(x, 2, scores))
    bridge.eval()
    assert torch.equal(bridge(x), bridge(x))


@torch.no_grad()
def test_memory_at_inference_fits_any_map():
    plain, reads = make_bridge().eval(), make_bridge(memory_at_eval=True).eval()
    reads.load_state_dict(plain.state_dict())
    x = make_maps()
    assert torch.equal(plain(x), reads(x, read_memory=False))
    torch.testing.assert_close(reads(x), literal(reads, x, 5, reads.memory.mem), rtol=1e-5, atol=1e-5)
    other = make_maps(2, (9, 3))
    resized = F.interpolate(reads.memory.mem.unflatten(2, SIZE), (9, 3), mode="bilinear").flatten(2)
    torch.testing.assert_close(reads(other), literal(reads, other, 2, resized), rtol=1e-5, atol=1e-5)


def test_without_a_memory_there_is_no_state():
    bridge = make_bridge(use_memory=False).train()
    assert not state(bridge)
    assert bridge(make_maps(), 2).shape == (5, C, *SIZE)


@torch.no_grad()
def test_random_grouping_needs_no_scores():
    bridge = make_bridge(grouping="random").train()
    bridge(make_maps(), 2)
    assert 0 < bridge.memory.filled.sum() <= 3 * C and (bridge.memory.filled > 0).all()


def test_two_classes_and_one_image_of_each_kind():
    bridge = ChannelAttentionBridge(C, 2, (1, 1), dropout=0.1).train()
    out = bridge(torch.randn(2, C, 1, 1), 1, torch.zeros(1, 2, 8, 8), read_memory=True)
    assert out.isfinite().all()
    assert bridge.memory.filled.tolist() == [C, 0]  # nothing to choose by: the first class


def test_bfloat16_autocast_agrees_with_float32():
    bridge, x, scores = make_bridge().train(), make_maps().requires_grad_(), make_scores()
    before = state(bridge)
    exact = bridge(x, 2, scores, read_memory=True)
    bridge.load_state_dict(before, strict=False)
    with torch.autocast("cpu", torch.bfloat16):
        half = bridge(x, 2, scores, read_memory=True)
    assert bridge.memory.mem.dtype == torch.float32
    torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.05)
    assert torch.autograd.grad(half.float().sum(), x)[0].isfinite().all()


def test_a_state_of_another_map_size_loads_without_its_memory():
    small, large = make_bridge(), ChannelAttentionBridge(C, K, (9, 9))
    noise = large.memory.mem.clone()
    large.load_state_dict(small.state_dict())
    assert torch.equal(large.memory.mem, noise)
    assert all(torch.equal(p, q) for p, q in zip(large.parameters(), small.parameters()))
    same = make_bridge()
    same.load_state_dict(small.state_dict())
    assert torch.equal(same.memory.mem, small.memory.mem)
    with pytest.raises(RuntimeError, match=r"memory\.mem"):  # other classes: another network
        ChannelAttentionBridge(C, K + 1, SIZE).load_state_dict(small.state_dict())


# -- in a network ---------------------------------------------------------------------------------------------

NETWORKS = {
    "tiny": lambda: tiny(K, width=4),
    "segformer": lambda: segformer("mit_b0", K, width=16),
    "deeplab": lambda: deeplabv3plus("resnet18", K, width=16, low_level_width=8),
    "convnext": lambda: deeplabv3plus("convnext_atto", K, width=16, low_level_width=8),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(65, 65), (48, 97)])
@torch.no_grad()
def test_the_size_of_the_deepest_map_is_known_ahead(name: str, size: tuple[int, int]):
    network = NETWORKS[name]().eval()
    assert network.features(torch.randn(1, 3, *size))[-1].shape[2:] == network.map_size(*size)


def test_map_sizes_of_the_usual_crops(sketch: None):
    network = segformer("mit_b0", K, width=16)
    assert [network.map_size(side, side) for side in (513, 801, 512)] == [(17, 17), (26, 26), (16, 16)]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_with_a_bridge_takes_any_size_and_images_one_by_one(name: str):
    network = NETWORKS[name]().eval()
    plain = network(x := torch.randn(2, 3, 97, 131))
    bridge = ChannelAttentionBridge(network.encoder.channels[-1], K, network.map_size(513, 513))
    network = BridgedSegmentor(network, bridge).eval()
    out = network(x)
    assert out.shape == (2, K, 97, 131) and not torch.equal(out, plain)
    torch.testing.assert_close(out[:1], network(x[:1]), rtol=1e-4, atol=1e-5)
    assert all(n.startswith(("encoder.", "decoder.", "classifier.", "bridge.")) for n in network.state_dict())


# -- several processes ----------------------------------------------------------------------------------------


def one_update(rank: int, sync: str) -> dict[str, Tensor]:
    torch.manual_seed(rank)  # memories and batches of their own
    bridge = make_bridge(memory_sync=sync)
    before = state(bridge)
    x, scores = make_maps(3), make_scores(2)
    bridge.train()(x, 1, scores, read_memory=True)
    tokens = bridge.norm_in(F.gelu(bridge.map_in(x[1:])).flatten(2).mT).mT.detach()
    return {**state(bridge), "before": before["memory.mem"], "tokens": tokens, "scores": scores}


def updated(mem: Tensor, *batches: dict[str, Tensor]) -> Tensor:
    """A memory after one update by the batches in turn."""
    bridge = make_bridge()
    bridge.memory.mem.copy_(mem)
    for batch in batches:
        bridge.remember(batch["tokens"], batch["scores"], SIZE)
    return bridge.memory.mem


@pytest.mark.ddp
def test_rank_zero_rules_each_step():
    ranks = two_processes(one_update, "rank0")
    for got in ranks:  # rank 0's history and the rank's own batch
        torch.testing.assert_close(got["memory.mem"], updated(ranks[0]["before"], got))
    assert not torch.equal(ranks[0]["memory.mem"], ranks[1]["memory.mem"])


@pytest.mark.ddp
def test_gathered_channels_enter_everywhere_in_rank_order():
    ranks = two_processes(one_update, "gather")
    for got in ranks:
        torch.testing.assert_close(got["memory.mem"], updated(got["before"], *ranks))
    assert torch.equal(ranks[0]["memory.ptr"], ranks[1]["memory.ptr"])
    assert torch.equal(ranks[0]["memory.filled"], ranks[1]["memory.filled"])


@pytest.mark.ddp
def test_local_memories_know_nothing_of_each_other():
    for got in two_processes(one_update, "local"):
        torch.testing.assert_close(got["memory.mem"], updated(got["before"], got))


def test_alone_all_three_are_the_same():
    results = [one_update(0, sync)["memory.mem"] for sync in ("rank0", "gather", "local")]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def wrapped(rank: int) -> list[Tensor]:
    torch.manual_seed(rank)
    method = AllSpark(make_parts(), memory_sync="local")
    DistributedDataParallel(method)
    return [method.student.bridge.memory.mem, method.student.bridge.cross.q.weight.detach()]


@pytest.mark.ddp
def test_ddp_leaves_the_memory_to_itself():
    (mem_0, weight_0), (mem_1, weight_1) = two_processes(wrapped)
    assert torch.equal(weight_0, weight_1) and not torch.equal(mem_0, mem_1)
