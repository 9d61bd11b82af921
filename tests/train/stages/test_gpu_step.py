"""The ways of benchmarks/gpu_step.py, small and on a CPU; what only a GPU has (plans, graphs) runs there alone."""

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu_step import WAYS, measure, network_of, resident
from train.network.hardware import PLAIN
from train.network.losses import decomposition_loss
from train.settings import Loss


def loss_and_gradients(way, run=lambda network: network):
    network = network_of(way, 2, PLAIN.device)
    batch = resident(way.batch, 16, PLAIN.device)
    loss = decomposition_loss(run(network)(batch.composite), batch, Loss())["total"]
    loss.backward()
    return loss, {name: weight.grad for name, weight in network.named_parameters()}


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_each_way_has_the_loss_and_the_gradients_of_the_plain_form(norm):
    ways = [way for way in WAYS if way.norm == norm and way.batch == 2]
    wanted, gradients = loss_and_gradients(ways[0].plain)
    compile = lambda network: torch.compile(network, backend="eager")  # noqa: E731
    for split, compiled in {(way.split, way.mode is not None) for way in ways}:
        way = next(way for way in ways if way.split == split)
        torch.compiler.reset()
        loss, found = loss_and_gradients(way, compile if compiled else lambda network: network)
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
        for name, gradient in gradients.items():
            biased = name.endswith("0.bias") or name.endswith("3.bias")
            if not biased:  # a bias before a norm has a gradient of rounding alone
                assert (found[name] - gradient).norm() <= 1e-3 * gradient.norm(), (way.name, name)


def test_the_table_has_a_row_for_each_way_that_there_was_time_for():
    ways = [replace(way, mode=None) for way in WAYS if way.mode is None or way.variation != "none"]
    rows = list(measure(2, 16, 60, 1, PLAIN, "eager", tuple(ways)))
    assert [way for way, *_ in rows] == ways
    assert all(seconds and apart < 1e-4 for _, seconds, apart, _ in rows)
    assert len(list(measure(2, 16, 0, 1, PLAIN, "eager", tuple(ways)))) == 1
