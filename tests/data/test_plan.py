import numpy as np
import pytest

from multifocal_jax.data.plan import BatchPlan, crop_start, epoch_order, hash_bits


def test_hash_is_splitmix64():
    # SplitMix64 seeded with 1234567: the reference values of Vigna's splitmix64.c, chained by hand.
    def mix(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    golden = 0x9E3779B97F4A7C15
    assert mix((1234567 + golden) % 2**64) == 6457827717110365317
    state = 0
    for part in (7, 3, 5):
        state = mix((state + golden * (part + 1)) % 2**64)
    expected = [mix((state + golden * (index + 1)) % 2**64) for index in (0, 1, 10**9)]
    assert hash_bits(7, 3, 5, np.array([0, 1, 10**9])).tolist() == expected


def test_every_picture_is_seen_once_an_epoch_in_another_order():
    plan = BatchPlan(entries=10, batch_size=4, seed=3)
    seen = np.concatenate([plan.batch(t).entry for t in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])
    assert list(epoch_order(3, 0, 10)) == list(seen[:10])
    assert list(epoch_order(4, 0, 10)) != list(seen[:10])


def test_a_batch_may_be_larger_than_an_epoch():
    samples = BatchPlan(entries=3, batch_size=8, seed=0).batch(1)
    assert list(samples.index) == list(range(8, 16))
    assert sorted(samples.entry[1:4]) == [0, 1, 2]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch(processes):
    plan = BatchPlan(entries=7, batch_size=8, seed=1, flips=True, rotations=True)
    whole = plan.batch(11)
    share = 8 // processes
    parts = [plan.batch(11, (p * share, (p + 1) * share)) for p in range(processes)]
    for name in vars(whole):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


def test_crops_reach_every_place_evenly():
    bits = hash_bits(0, 1, 0, np.arange(100_000))
    starts = crop_start(bits, np.full(100_000, 20), 16)
    counts = np.bincount(starts)
    assert len(counts) == 5
    # Five standard deviations of a binomial with p = 1/5.
    assert np.abs(counts - 20_000).max() < 5 * np.sqrt(100_000 * 0.2 * 0.8)
    assert crop_start(bits[:3], np.array([16, 16, 16]), 16).tolist() == [0, 0, 0]


def test_turns_are_off_unless_asked_for():
    plain = BatchPlan(entries=5, batch_size=500, seed=0).batch(0)
    assert not plain.flip.any()
    assert not plain.turns.any()
    turned = BatchPlan(entries=5, batch_size=500, seed=0, flips=True, rotations=True).batch(0)
    assert set(turned.flip) == {0, 1}
    assert set(turned.turns) == {0, 1, 2, 3}
    np.testing.assert_array_equal(turned.top, plain.top)
