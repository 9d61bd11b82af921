import json
from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from torch.nn import functional
from typer.testing import CliRunner

from scans.errors import CheckpointError
from synth.corpus import Corpus
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.sources.reader import SourceStore
from tests.made.real_scans import write_case, write_catalog
from tests.made.sources import REGION, make_store
from train.cli.application import app
from train.data.random_bits import Draws
from train.data.split import split_by_source
from train.evaluation.evaluate import evaluate
from train.inference.model import load_model
from train.network.unet import UNet
from train.proxies.asc_net import AscNet, Selection, brightness
from train.proxies.genesis import Genesis, curve, holes, marked, openings, shuffle, small_windows, spread, warp
from train.proxies.implicit_field import AutoDecoder, coordinates
from train.proxies.jigsaw import MOST, products
from train.proxies.jigsaw import permutations as known_permutations
from train.proxies.normals import Normals, NormalScan
from train.proxies.patch_location import PatchLocation
from train.proxies.patches import cut, patch_side
from train.proxies.recorded import load_checkpoint
from train.proxies.registry import PROXIES, proxy_of, proxy_task
from train.proxies.residual import Residual
from train.proxies.rotation import CLASSES, rotate
from train.settings import Adapt, Finetune, ImplicitField, Network, Pretrain, Schedule, SettingsError
from train.settings import Genesis as GenesisSettings
from train.share.export import export
from train.stages.adapt import adapt
from train.stages.finetune import finetune
from train.stages.pretrain import pretrain
from train.stages.replay import replay

pytestmark = pytest.mark.usefixtures("undrawn")
SMALL_FIELD = {"latent": 4, "width": 16, "layers": 2, "frequencies": 2, "points": 512, "restore_steps": 8}
NAMES = sorted(PROXIES)
DIFFERENT = [
    "genesis",
    "jigsaw",
    "implicit_field",
    "asc_net",
]  # the other two are like jigsaw


def noise(seed=0, channels=1, size=24):
    voxels = np.random.default_rng(seed).normal(size=(channels, size, size, size)).astype(np.float32)
    voxels[:, :3] = 0  # outside the organ
    return voxels


def schedule(**changed):
    return Schedule(**{"steps": 2, "checkpoint_every": 2, "device": "cpu", "precision": "fp32"} | changed)


def chosen(proxy, **changed):
    values = {
        "proxy": proxy,
        "network": {"width": 2},
        "schedule": schedule(),
        "validation_samples": 2,
        "implicit_field": SMALL_FIELD,
        "genesis": {"windows": 50},
        "jigsaw": {"permutations": 5},
    }
    return Pretrain(**values | changed)


@pytest.fixture(scope="module")
def corpus(corpus_path):
    return Corpus(corpus_path)


@pytest.fixture(scope="module")
def runs(corpus_path, tmp_path_factory):
    """Return a folder with a run of each proxy, two steps long, validated after each."""
    root = tmp_path_factory.mktemp("proxies")
    for name in NAMES:
        pretrain(corpus_path, root / name, chosen(name, schedule=schedule(checkpoint_every=1)))
    return root


# What is drawn


def test_draws_are_a_function_of_seed_and_stream_alone():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = Draws(3, 4), Draws(3, 4), Draws(3, 5)
    assert (
        [one.uniform() for _ in range(5)] == [again.uniform() for _ in range(5)] != [other.uniform() for _ in "12345"]
    )
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_draws_reach_both_ends_and_stay_inside():
    draws = Draws(0, 0)
    assert {draws.integer(2, 4) for _ in range(200)} == {2, 3, 4}
    assert sorted(draws.permutation(9)) == list(range(9))
    numbers = draws.uniforms(1000)
    assert 0 <= numbers.min() < numbers.max() < 1


def test_training_sees_normals_of_training_sources_and_validation_the_others(corpus):
    split = split_by_source(corpus, (), 0, 4)
    normals = Normals(corpus, split, seed=0)
    held_out = {normals.names[position] for position in normals.validation}
    assert held_out == set(split.held_out)
    assert not held_out & {normals.names[normals.source_at(place)] for place in range(20)}
    position = normals.source_at(0)
    number = int(np.flatnonzero(corpus.normal == position)[0])
    assert np.array_equal(normals.scan(position).voxels[0], corpus[number].normal)


# 3D rotation


def undone(label):
    axis, quarters = divmod(label - 1, 3)
    return 3 * axis + 3 - quarters if label else 0


def test_the_ten_rotations_differ_and_each_is_undone():
    volume = noise(size=5)
    turned = [rotate(volume, label) for label in range(CLASSES)]
    assert np.array_equal(turned[0], volume)
    assert not any(np.array_equal(a, b) for a, b in combinations(turned, 2))
    for label, one in enumerate(turned):
        assert np.array_equal(rotate(one, undone(label)), volume)


def test_rotations_are_quarter_turns_about_each_axis():
    volume = noise(size=4)
    for axis in range(3):
        for quarters in (1, 2, 3):
            slow = volume.copy()
            for _ in range(quarters):  # (a, b) comes from (b, last - a), the third index stays
                before = slow.copy()
                for index in product(range(4), repeat=3):
                    index, source = list(index), list(index)
                    first, second = (a for a in range(3) if a != axis)
                    source[first], source[second] = index[second], 3 - index[first]
                    slow[(0, *index)] = before[(0, *source)]
            assert np.array_equal(rotate(volume, 1 + 3 * axis + quarters - 1), slow)


# 3D jigsaw and relative patch location


def test_27_elements_form_a_field():
    table = products()
    assert np.array_equal(table, table.T)
    assert np.array_equal(table[1], np.arange(27))
    for element in range(1, 27):
        assert sorted(table[element]) == list(range(27))  # no divisors of 0
    for a, b, c in [(5, 11, 23), (26, 25, 24), (3, 9, 13)]:
        assert table[table[a, b], c] == table[a, table[b, c]]


def test_jigsaw_permutations_agree_in_at_most_one_place():
    every = known_permutations(MOST)
    assert every.shape == (702, 27)
    assert all(sorted(row) == list(range(27)) for row in every)
    agreements = (every[:, None] == every[None]).sum(-1)
    np.fill_diagonal(agreements, 0)
    assert agreements.max() == 1
    assert np.array_equal(known_permutations(100), every[:100])


def test_no_28_permutations_are_further_apart():
    # Two of more than n permutations of n places must agree on where the first goes; here by trying all of 3 places.
    for trio in combinations(permutations(range(3)), 4):
        assert min(sum(a != b for a, b in zip(p, q, strict=True)) for p, q in combinations(trio, 2)) <= 2


@given(seed=st.integers(0, 99), size=st.sampled_from([24, 27, 32]))
@profile(max_examples=15)
def test_patches_lie_in_their_cells_and_are_the_scan_itself(seed, size):
    cell, side = size // 3, patch_side(size)
    voxels = np.arange(size**3, dtype=np.float32).reshape(1, size, size, size)
    patches = cut(voxels, Draws(seed, 0))
    assert patches.shape == (27, 1, side, side, side)
    for patch, place in zip(patches, product(range(3), repeat=3), strict=True):
        start = np.unravel_index(int(patch[0, 0, 0, 0]), (size,) * 3)
        z, y, x = (slice(s, s + side) for s in start)
        assert np.array_equal(patch, voxels[:, z, y, x])
        assert all(p * cell <= s <= (p + 1) * cell - side for p, s in zip(place, start, strict=True))


def test_a_jigsaw_is_put_together_again_by_its_label():
    proxy = proxy_of(chosen("jigsaw"), 24)
    scan = NormalScan(0, noise())
    shown, label = proxy.example(scan, Draws(1, 1))
    draws = Draws(1, 1)
    assert draws.integer(0, 4) == label
    cells = cut(scan.voxels, draws)
    back = np.empty_like(shown)
    back[proxy.permutations[label]] = shown
    assert np.array_equal(back, cells)


def test_a_location_names_the_cell_that_the_second_patch_is_from():
    voxels = np.zeros((1, 24, 24, 24), np.float32)
    for number, (z, y, x) in enumerate(product(range(3), repeat=3)):
        voxels[0, 8 * z : 8 * z + 8, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = number
    seen = set()
    for stream in range(200):
        (centre, other), label = PatchLocation(24).example(NormalScan(0, voxels), Draws(0, stream))
        assert np.all(centre == 13)
        cells = [cell for cell in range(27) if cell != 13]
        assert np.all(other == cells[int(label)])
        seen.add(int(label))
    assert seen == set(range(26))


def test_a_classifier_shows_each_piece_to_the_encoder_of_the_unet():
    torch.manual_seed(0)
    network = proxy_of(chosen("patch_location"), 32).network(Network(width=2), 3).eval()
    pieces = torch.randn(2, 2, 1, 16, 16, 16)
    slow = torch.stack(
        [torch.cat([network.encoder(piece[None])[-1].mean((2, 3, 4))[0] for piece in pair]) for pair in pieces]
    )
    torch.testing.assert_close(network(pieces), network.head(slow))
    assert set(network.encoder.state_dict()) == set(UNet(Network(width=2)).encoder.state_dict())


# Models Genesis


@given(numbers=st.lists(st.floats(0, 1), min_size=4, max_size=4), falling=st.booleans())
def test_an_intensity_curve_is_a_monotone_bezier_curve(numbers, falling):
    controls = np.reshape(numbers, (2, 2))
    arguments, values = curve(controls, falling)
    rising = values[::-1] if falling else values
    assert np.all(np.diff(arguments) > -1e-12)
    assert np.all(np.diff(rising) > -1e-12)
    points = np.array([[0, 0], *controls, [1, 1]], float)
    for position in (0, 250, 999):  # de Casteljau
        t, reduced = position / 999, points
        while len(reduced) > 1:
            reduced = (1 - t) * reduced[:-1] + t * reduced[1:]
        np.testing.assert_allclose((arguments[position], rising[position]), reduced[0], atol=1e-12)


def test_the_curve_keeps_the_range_and_what_lies_outside_the_organ():
    volume = noise()[0]
    identity = curve(np.array([[1 / 3, 1 / 3], [2 / 3, 2 / 3]]), falling=False)
    np.testing.assert_allclose(warp(volume, *identity), volume, atol=1e-5)
    turned = warp(volume, *curve(np.array([[0.1, 0.9], [0.2, 0.7]]), falling=True))
    assert np.all(turned[volume == 0] == 0)
    assert spread(turned) == pytest.approx(spread(volume), abs=1e-5)
    inside = volume != 0
    order = np.argsort(volume[inside])
    assert np.all(np.diff(turned[inside][order]) <= 1e-6)


def test_shuffling_permutes_inside_windows_as_one_after_the_other_would():
    volume, count = noise(channels=2, size=32), 40
    shuffled = shuffle(volume, count, Draws(5, 0))
    draws = Draws(5, 0)
    starts, sides = small_windows(np.array(volume.shape[1:]), count, draws)
    assert sides.min() >= 1
    assert sides.max() <= 3
    keys, slow = draws.bits(int(sides.prod(axis=1).sum())), volume.copy()
    for start, side in zip(starts, sides, strict=True):
        here, keys = keys[: side.prod()], keys[side.prod() :]
        z, y, x = (slice(a, a + n) for a, n in zip(start, side, strict=True))
        for channel in range(2):
            inside = volume[channel, z, y, x].reshape(-1)
            slow[channel, z, y, x] = inside[np.argsort(here, kind="stable")].reshape(side)
    assert np.array_equal(shuffled, slow)
    assert not np.array_equal(shuffled, volume)


def test_one_shuffled_window_holds_the_same_values():
    volume = noise(size=64)
    shuffled = shuffle(volume, 1, Draws(2, 0))
    (start,), (side,) = small_windows(np.array(volume.shape[1:]), 1, Draws(2, 0))
    inside = marked([tuple(slice(a, a + n) for a, n in zip(start, side, strict=True))], volume.shape[1:])
    assert np.array_equal(np.sort(shuffled[0][inside]), np.sort(volume[0][inside]))
    assert np.array_equal(shuffled[0][~inside], volume[0][~inside])


@given(seed=st.integers(0, 10_000), inner=st.booleans(), size=st.sampled_from([24, 32, 40]))
@profile(max_examples=30)
def test_painting_leaves_the_rest_untouched_and_fills_within_the_range(seed, inner, size):
    whole = noise(seed % 7, size=size)
    shape = whole.shape[1:]
    settings = GenesisSettings(shuffle=0, nonlinear=0, paint=1, inner=float(inner))
    seen = Genesis(settings).deform(whole, Draws(seed, 0))
    draws = Draws(seed, 0)
    for _ in range(4):  # whether to shuffle, warp, paint, and which way
        draws.uniform()
    windows = holes(shape, draws) if inner else openings(shape, draws)
    painted = marked(windows, shape) == inner
    assert np.array_equal(seen[0][~painted], whole[0][~painted])
    low, high = spread(whole[0])
    assert np.all((seen[0][painted] >= low) & (seen[0][painted] <= high))
    least, most = (size // 6, size // 3) if inner else (size - 4 * size // 7, size - 3 * size // 7)
    for one in windows:
        assert all(least <= part.stop - part.start <= most for part in one)
        assert all(part.start >= 3 and part.stop <= size - 3 for part in one)
    assert len(windows) <= 5


def test_deformations_come_as_often_as_the_authors_have_them():
    whole, settings = noise(size=16), GenesisSettings(windows=1)
    without = GenesisSettings(windows=1, shuffle=0, paint=0)
    warped = sum(not np.array_equal(Genesis(without).deform(whole, Draws(0, i)), whole) for i in range(400))
    assert abs(warped / 400 - settings.nonlinear) < 0.05
    without = GenesisSettings(windows=1, shuffle=0, nonlinear=0)
    painted = [Genesis(without).deform(whole, Draws(0, i)) != whole for i in range(400)]
    changed = [one.mean() for one in painted if one.any()]
    assert abs(len(changed) / 400 - settings.paint) < 0.05
    assert abs(np.mean(np.array(changed) < 0.2) - settings.inner) < 0.08


def test_genesis_wants_the_flipped_scan_and_scores_the_normal_layer():
    whole = noise(channels=2)
    settings = GenesisSettings(flip=1, shuffle=0, nonlinear=0, paint=0)
    seen, wanted = Genesis(settings).example(NormalScan(0, whole), Draws(0, 3))
    assert np.array_equal(seen, wanted)
    assert any(np.array_equal(wanted, np.flip(whole, axes)) for axes in [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3)])
    network = Genesis(settings).network(Network(width=2, in_channels=2), sources=1).eval()
    scan, truth = torch.randn(1, 2, 8, 8, 8), torch.randn(1, 2, 8, 8, 8)
    normal = UNet.forward(network, scan).normal
    total = Genesis(settings).terms(network(scan), truth)["total"]
    torch.testing.assert_close(total, (normal - truth).square().mean())


# 3D implicit field


def field(**changed):
    return ImplicitField(**{**SMALL_FIELD, "frequencies": 1, **changed})


def test_a_point_is_told_by_the_latent_of_its_own_source():
    torch.manual_seed(0)
    network = AutoDecoder(Network(in_channels=2), field(), 3)
    points = torch.rand(2, 5, 4) * 2 - 1
    points[0, :, 0], points[1, :, 0] = 2, 0
    told = network(points)
    for row, source in enumerate((2, 0)):
        latent = network.latents.weight[source]
        for place in range(5):
            where = points[row, place, 1:]
            encoded = torch.cat([latent, where, (torch.pi * where).sin(), (torch.pi * where).cos()])
            torch.testing.assert_close(told[row, place, :2], network.field(encoded))
        torch.testing.assert_close(told[row, :, 2], latent.square().mean().expand(5))


def test_points_are_voxels_of_the_organ_with_their_own_intensities():
    voxels = noise(channels=2)
    points, wanted = proxy_of(chosen("implicit_field"), 24).example(NormalScan(7, voxels), Draws(0, 0))
    assert np.all(points[:, 0] == 7)
    index = np.rint((points[:, 1:] + 1) / 2 * 24 - 0.5).astype(int)
    np.testing.assert_allclose(coordinates((24, 24, 24)).numpy()[tuple(index.T)], points[:, 1:])
    assert np.array_equal(voxels[:, index[:, 0], index[:, 1], index[:, 2]].T, wanted)
    assert np.all(voxels[0][tuple(index.T)] != 0)


def test_restoring_finds_a_scan_the_decoder_knows_and_leaves_the_tumour_as_residual():
    torch.manual_seed(0)
    settings = field(restore_steps=300, restore_rate=3e-2, latent=2, prior=0)
    network = AutoDecoder(Network(), settings, 1)
    places = coordinates((16, 16, 16))
    with torch.no_grad():
        scan = 5 * network.decode(torch.tensor([[0.7, -0.4]]), places.reshape(1, -1, 3)).reshape(1, 16, 16, 16)
    network.field[-1].weight.data *= 5
    network.field[-1].bias.data *= 5
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scan[:, :2] = 0
    tumour = torch.zeros(16, 16, 16, dtype=torch.bool)
    tumour[6:10, 6:10, 6:10] = True
    sick = torch.where(tumour, scan + 3, scan)
    with torch.inference_mode():
        restored, own, logits = (layer[0, 0] for layer in Residual(network, 1.5)(sick[None]))
    assert torch.equal(own, sick[0])
    assert (restored - scan[0]).abs().max() < 0.3
    assert torch.equal(logits > 0, tumour)
    assert torch.all(restored[:2] == 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


# ASC-Net


@pytest.fixture(scope="module")
def pairs():
    """Return composites beside healthy scans, shape (2, 2, 2, 16, 16, 16): of two modalities."""
    return torch.from_numpy(np.stack([noise(seed, channels=4, size=16).reshape(2, 2, 16, 16, 16) for seed in (1, 2)]))


def asc_net(channels=2):
    torch.manual_seed(0)
    return AscNet(Network(width=2, in_channels=channels)).train()


def adversarial(network, pairs):
    return Selection().terms(network(pairs), pairs[:, 0])["discriminator"]


def test_cuts_lie_in_the_organ_and_the_discriminator_sees_the_first_beside_a_healthy_scan(pairs):
    network = asc_net().eval()
    scan, healthy = pairs.unbind(1)
    output, found = network(pairs), network.cut(scan)
    inside = (scan != 0).any(1, keepdim=True)
    fence, wild = (torch.where(inside, 1 / (1 + torch.exp(-one)), 0) for one in found.split(2, dim=1))
    torch.testing.assert_close(output[:, :4], torch.cat([fence, wild], 1))
    mixing = network.together.weight[:, :, 0, 0, 0]
    again = torch.einsum("ok,nkzyx->nozyx", mixing, output[:, :4]) + network.together.bias.view(1, 2, 1, 1, 1)
    torch.testing.assert_close(output[:, 4:6], again.sigmoid() * inside)
    told = torch.cat([network.discriminator(one[:, None]) for one in (brightness(healthy, healthy), fence)], 1)
    torch.testing.assert_close(output[:, 6:], told[..., None, None, None].expand(2, 2, 16, 16, 16))


def test_terms_of_asc_net_equal_slow_references():
    rng = np.random.default_rng(0)
    cuts, told = rng.random((2, 6, 4, 4, 4)), rng.normal(size=(2, 2))
    wanted = rng.normal(size=(2, 2, 4, 4, 4))
    wanted[:, :, 0] = 0  # outside the organ
    output = np.concatenate([cuts, np.broadcast_to(told[..., None, None, None], (2, 2, 4, 4, 4))], axis=1)
    terms = Selection().terms(torch.from_numpy(output).float(), torch.from_numpy(wanted).float())
    truth, errors, overlaps = np.where(wanted == 0, 0, 1 / (1 + np.exp(-wanted))), [], []
    for scan, channel in product(range(2), range(2)):
        errors.append(np.mean((cuts[scan, 4 + channel] - truth[scan, channel]) ** 2))
        fence, wild = cuts[scan, channel], cuts[scan, 2 + channel]
        overlaps.append((2 * (fence * wild).sum() + 1) / (fence.sum() + wild.sum() + 1))
    judged = np.mean([abs(np.tanh(healthy) + 1) + abs(np.tanh(cut) - 1) for healthy, cut in told])
    slow = {"reconstruction": np.mean(errors), "overlap": np.mean(overlaps), "discriminator": judged}
    slow["total"] = sum(slow.values())
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(slow, rel=1e-5)


def test_the_discriminator_descends_its_loss_and_the_cuts_ascend_it(pairs):
    network = asc_net()
    before = adversarial(network, pairs)
    before.backward()
    judge = list(network.discriminator.parameters())
    main = [*network.encoder.parameters(), *network.decoder.parameters(), *network.cuts.parameters()]
    for parameters, better in ((judge, True), (main, False)):
        with torch.no_grad():
            for one in parameters:
                one -= 1e-3 * one.grad
            assert (adversarial(network, pairs) < before) == better
            for one in parameters:
                one += 1e-3 * one.grad


def test_cuts_get_the_gradient_of_the_authors_main_module(pairs):
    network = asc_net()
    scan = pairs[:, 0]
    main = [*network.encoder.parameters(), *network.cuts.parameters()]
    reversed_ = torch.autograd.grad(adversarial(network, pairs), main)
    fence = brightness(network.cut(scan), scan)[:, :2]
    fooled = (network.discriminator(fence[:, None]).tanh() + 1).abs().mean()
    for one, other in zip(reversed_, torch.autograd.grad(fooled, main), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_asc_net_restores_the_first_cut_inside_the_organ(pairs):
    network, scan = asc_net().eval(), pairs[0, 0]
    restored = network.restore(scan)
    torch.testing.assert_close(restored, network.cut(scan[None])[0, :2].detach() * (scan != 0).any(0))
    assert not restored.requires_grad
    layers = Residual(network, 0.5)(scan[None])
    expected = (scan - restored).abs().mean(0) > 0.5
    assert torch.equal(layers.logits[0, 0] > 0, expected)
    assert 0 < expected.sum() < expected.numel()


def test_asc_net_sees_training_composites_beside_normals_of_other_sources(corpus):
    settings = chosen("asc_net")
    split = split_by_source(corpus, (), 0, 4)
    task = proxy_task(proxy_of(settings, corpus.size), corpus, split, settings)
    names, seen = [str(source["name"]) for source in corpus.sources], []
    for step, batch in enumerate(task.batches(range(len(split.training) // 2))):
        for row, said in enumerate(task.recipe(step)):
            sample, healthy = corpus[said["sample"]], names.index(said["healthy"])
            assert torch.equal(batch.composite[row, 0, 0], torch.from_numpy(sample.composite.astype(np.float32)))
            assert torch.equal(batch.wanted[row], batch.composite[row, 0])
            assert np.array_equal(batch.composite[row, 1], task.normals.scan(healthy).voxels)
            assert healthy != corpus.normal[said["sample"]]
            assert names[healthy] not in split.held_out
            seen.append(said["sample"])
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(split.training.tolist())


# Through the loop


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_function_of_the_step_in_any_order(corpus, name):
    settings = chosen(name)
    split = split_by_source(corpus, (), 0, 2)
    tasks = [proxy_task(proxy_of(settings, corpus.size), corpus, split, settings) for _ in range(2)]
    straight = list(tasks[0].batches(range(3)))
    (later,) = tasks[1].batches(range(2, 3))
    assert torch.equal(straight[2].composite, later.composite)
    assert torch.equal(straight[2].wanted, later.wanted)
    assert not torch.equal(straight[0].composite, straight[1].composite)
    assert json.dumps(tasks[0].recipe(2))


def test_a_short_training_puts_cuts_together_that_do_not_overlap(pairs):
    network = asc_net()
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=1e-2), []
    for _ in range(30):
        terms = Selection().terms(network(pairs), pairs[:, 0])
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        losses.append(float((terms["reconstruction"] + terms["overlap"]).detach()))
        assert 0 <= float(terms["discriminator"].detach()) <= 4  # a game: it need not fall
        if losses[-1] < 0.8 * losses[0]:
            return
    pytest.fail(f"it does not fall: {losses}")


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"asc_net"}))
def test_the_loss_falls_on_a_batch_seen_again_and_again(corpus, name):
    settings = chosen(name, network={"width": 4}, implicit_field={**SMALL_FIELD, "width": 64, "frequencies": 4})
    proxy = proxy_of(settings, corpus.size)
    task = proxy_task(proxy, corpus, split_by_source(corpus, (), 0, 2), settings)
    (batch,) = task.batches(range(1))
    torch.manual_seed(0)
    network = proxy.network(settings.network, len(corpus.sources)).train()
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=1e-2), []
    for _ in range(25):
        terms = task.loss(network(batch.composite), batch)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        losses.append(float(terms["total"].detach()))
        assert np.isfinite(losses[-1])
        if losses[-1] < 0.8 * losses[0]:
            return
    pytest.fail(f"it does not fall: {losses}")


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_leaves_a_run_folder_and_records_itself(runs, name):
    saved = load_checkpoint(runs / name / "best.safetensors")
    assert saved.record.settings["proxy"] == name
    assert not (set(PROXIES) - {name}) & set(saved.record.settings)
    assert (runs / name / "report.html").is_file()
    entries = [json.loads(line) for line in (runs / name / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any("validation_loss" in entry for entry in entries)
    assert saved.record.threshold["side"] in ("above", "below")
    assert ("accuracy" in saved.record.validation) == (name in ("rotation", "jigsaw", "patch_location"))


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_resumed_proxy_equals_one_that_was_not_interrupted(corpus_path, runs, tmp_path, name):
    pretrain(corpus_path, tmp_path, chosen(name, schedule=schedule(steps=1)))
    pretrain(corpus_path, tmp_path, chosen(name), resume=True)
    # The same validations, so that the plateau rule has seen the same.
    parts, whole = (load_checkpoint(run / "last.safetensors") for run in (tmp_path, runs / name))
    assert parts.network.keys() == whole.network.keys()
    assert all(torch.equal(parts.network[key], whole.network[key]) for key in whole.network)
    assert all(torch.equal(parts.optimiser[key], whole.optimiser[key]) for key in whole.optimiser)


@pytest.fixture(scope="module")
def second_modality(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    other = make_store(folder / "other.zarr", 3, region=REGION.model_copy(update={"modality": "other"}))
    manifest = make_manifest(SourceStore(other), samples=22, seed=7, shard_size=8)
    assert not generate(manifest, other, folder / "two.zarr", workers=0).failed
    return folder / "two.zarr"


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_proxy_sees_all_modalities_of_aligned_corpora(corpus_path, second_modality, tmp_path, name):
    pretrain([corpus_path, second_modality], tmp_path / "run", chosen(name))
    saved = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert [channel["region"]["modality"] for channel in saved.record.channels] == ["noise", "other"]
    if name == "implicit_field":
        assert saved.network["field.2.weight"].shape == (2, 16)
    else:
        assert saved.network["encoder.levels.0.0.weight"].shape[1] == 2


def test_a_run_is_not_continued_with_another_proxy(corpus_path, runs):
    with pytest.raises(CheckpointError, match="--proxy rotation, not genesis"):
        pretrain(corpus_path, runs / "rotation", chosen("genesis"), resume=True)


def test_layer_decomposition_records_nothing_of_proxies(corpus_path, tmp_path):
    pretrain(corpus_path, tmp_path / "run", Pretrain(network={"width": 2}, schedule=schedule(), validation_samples=2))
    assert not {"proxy", *PROXIES} & set(load_checkpoint(tmp_path / "run" / "last.safetensors").record.settings)


def test_what_belongs_to_layers_is_refused(corpus_path, tmp_path):
    for changed, name in (({"recombine": True}, "--recombine"), ({"loss": {"l3": 0}}, "--loss-weights")):
        with pytest.raises(SettingsError, match=name):
            pretrain(corpus_path, tmp_path / "run", chosen("rotation", **changed))
    with pytest.raises(SettingsError, match="--norm instance: pieces of 8 voxels"):
        pretrain(corpus_path, tmp_path / "run", chosen("jigsaw", network={"width": 2, "norm": "instance"}))
    with pytest.raises(SettingsError, match="sides of 16 voxels"):
        proxy_of(chosen("jigsaw"), 16)


# What becomes of the weights


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed in range(3):
        write_case(root / "data", f"case{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    catalog = write_catalog(root / "catalog.yaml", root / "data")
    text = catalog.read_text().replace("brain: {modality: FLAIR}", "test: {modality: noise}")
    catalog.write_text(text.replace("region: brain\n    modality: FLAIR", "region: test\n    modality: noise"))
    return catalog


@pytest.mark.parametrize("name", ["genesis", "jigsaw", "asc_net"])
def test_fine_tuning_takes_the_encoder_of_a_proxy(runs, heads, tmp_path, name):
    init = runs / name / "best.safetensors"
    settings = Finetune(network={"width": 2}, schedule=schedule(steps=1, checkpoint_every=1, learning_rate=1e-12))
    finetune(init, heads, "heads", tmp_path / "run", settings)
    before, after = load_checkpoint(init), load_checkpoint(tmp_path / "run" / "last.safetensors")
    weights = [key for key in after.network if key.startswith("encoder.") and key.endswith("weight")]
    assert weights
    assert after.record.data["proxy"] == name
    assert all(torch.allclose(after.network[key], before.network[key], atol=1e-6) for key in weights)
    assert load_model(tmp_path / "run" / "last.safetensors", "cpu").network.settings.width == 2


@pytest.mark.parametrize("name", ["genesis", "patch_location", "jigsaw", "rotation"])
def test_a_proxy_without_a_mask_is_not_used_to_segment(runs, tmp_path, name):
    path = runs / name / "best.safetensors"
    with pytest.raises(CheckpointError, match=f"--proxy {name}, which learns no mask; fine-tune it first"):
        load_model(path, "cpu")
    with pytest.raises(CheckpointError, match="learns no mask"):
        export(path, tmp_path / "out")
    with pytest.raises(CheckpointError, match="learns no mask"):
        adapt(path, "none", tmp_path, "none", tmp_path / "run", Adapt())
    said = CliRunner().invoke(app, ["segment", "--checkpoint", str(path), str(tmp_path), "--out", str(tmp_path / "m")])
    assert said.exit_code != 0
    assert "Traceback" not in said.output


@pytest.mark.parametrize(("name", "said"), [("implicit_field", "auto-decoder"), ("asc_net", "ASC-Net")])
def test_a_residual_is_evaluated_with_the_threshold_its_validation_chose(runs, heads, tmp_path, name, said):
    path = runs / name / "best.safetensors"
    saved = load_checkpoint(path)
    model = load_model(path, "cpu")
    assert float(model.network.threshold) == pytest.approx(saved.record.validation["threshold"])
    evaluation = evaluate(path, heads, "heads", tmp_path / "out", device="cpu")
    assert len(evaluation.scored) == 3
    assert said in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(CheckpointError, match="no UNet"):
        export(path, tmp_path / "shared")


def test_an_implicit_field_has_no_encoder_to_fine_tune(runs, heads, tmp_path):
    path = runs / "implicit_field" / "best.safetensors"
    with pytest.raises(CheckpointError, match="is of another network"):
        finetune(path, heads, "heads", tmp_path / "run", Finetune(network={"width": 2}, schedule=schedule(steps=1)))


def test_the_command_line_starts_a_proxy_and_says_what_to_do_next(corpus_path, tmp_path):
    begin = ["pretrain", "--corpus", str(corpus_path), "--out", str(tmp_path / "run"), "--proxy"]
    small = ["--width", "1", "--steps", "1", "--device", "cpu", "--precision", "fp32", "--validation-samples", "1"]
    said = CliRunner().invoke(app, [*begin, "rotation", *small])
    assert said.exit_code == 0, said.output
    assert "next: train finetune --init" in said.output.replace("\n", " ")
    said = CliRunner().invoke(app, [*begin, "exemplar", *small])
    assert isinstance(said.exception, SettingsError)
    assert "'implicit_field'" in str(said.exception)


def test_classification_is_scored_by_cross_entropy_and_right_answers():
    proxy = proxy_of(chosen("rotation"), 24)
    output, wanted = torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    slow = -torch.stack([row.log_softmax(0)[label] for row, label in zip(output, wanted, strict=True)]).mean()
    torch.testing.assert_close(proxy.terms(output, wanted)["total"], slow)
    assert proxy.score(functional.one_hot(torch.tensor([1, 2, 0, 4]), 10).float(), wanted) == {"accuracy": 0.75}


def test_a_step_of_a_proxy_that_is_not_finite_can_be_replayed(corpus_path, tmp_path, monkeypatch):
    out = tmp_path / "run"
    pretrain(corpus_path, out, chosen("rotation"))
    more = chosen("rotation", schedule=schedule(steps=4))
    with monkeypatch.context() as poisoned:
        poisoned.setattr(
            "train.proxies.classifier.functional.cross_entropy", lambda output, wanted: output.sum() * np.nan
        )
        with pytest.raises(SettingsError, match="not finite at step 3"):
            pretrain(corpus_path, out, more, resume=True)
    (found,) = replay(out, "cpu")
    assert [sample["proxy"] for sample in found.samples] == ["rotation"] * 2
    assert found.attempts[0].finite
