import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made.batches import collate
from tests.made.tiny_corpus import TinyCorpus
from train.data.variation import varied

BATCH = collate([TinyCorpus()[0], TinyCorpus()[1]])
NAMES = ("composite", "normal", "texture", "mask")


@settings(max_examples=20)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9))
def test_eq_5_holds_and_nothing_appears_outside_organ_and_mask(seed, first):
    batch = varied(BATCH, "light", seed, [first, first + 1])
    blend = batch.alpha.view(-1, 1, 1, 1, 1) * batch.mask
    torch.testing.assert_close(batch.composite, (1 - blend) * batch.normal + blend * batch.texture, atol=1e-5, rtol=0)
    assert torch.equal(batch.mask.sum((1, 2, 3, 4)), BATCH.mask.sum((1, 2, 3, 4)))
    assert not batch.texture[batch.mask == 0].any()
    organ = (BATCH.composite != 0) | (BATCH.normal != 0)
    for name in ("composite", "normal"):
        layer = getattr(batch, name)
        assert ((layer != 0).sum((1, 2, 3, 4)) == organ.sum((1, 2, 3, 4))).all()


def test_it_is_a_function_of_seed_and_position_and_leaves_its_input():
    before = {name: getattr(BATCH, name).clone() for name in NAMES}
    here, again, swapped = (
        varied(BATCH, "light", 3, [7, 8]),
        varied(BATCH, "light", 3, [7, 8]),
        varied(BATCH, "light", 3, [8, 7]),
    )
    for name in NAMES:
        assert torch.equal(getattr(BATCH, name), before[name])
        assert torch.equal(getattr(here, name), getattr(again, name))
    assert not torch.equal(here.composite, swapped.composite)
    assert not torch.equal(here.composite, varied(BATCH, "light", 4, [7, 8]).composite)


def test_every_mirroring_comes():
    masks = {varied(BATCH, "light", 0, [p, p]).mask[0].numpy().tobytes() for p in range(60)}
    every = {BATCH.mask[0].flip(a).numpy().tobytes() for a in ([], [1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3])}
    assert masks == every
