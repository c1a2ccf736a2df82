"""Which sizes have programs of their own; expected values by hand."""

import random

from multifocal_jax.evaluation.sizes import Sizes


def test_two_sizes_have_programs_of_their_own():
    sizes = Sizes(1000)
    assert [sizes.program_for(size) for size in [(328, 488), (488, 328), (328, 488)]] == [
        (328, 488),
        (488, 328),
        (328, 488),
    ]


def test_further_sizes_share_the_smallest_program_that_holds_them():
    sizes = Sizes(100_000)
    assert [sizes.program_for((side, side)) for side in (400, 512)] == [(400, 400), (512, 512)]
    assert sizes.program_for((392, 400)) == (400, 400)
    assert sizes.program_for((408, 8)) == (448, 64)  # 512 × 512 has 100,000 pixels more
    assert sizes.program_for((440, 440)) == (512, 512)
    assert sizes.program_for((8, 64)) == (448, 64)
    assert sizes.program_for((1000, 1024)) == (1024, 1024)


def test_a_size_that_was_padded_enough_has_a_program_of_its_own():
    sizes = Sizes(3000)
    sizes.program_for((64, 64))
    sizes.program_for((8, 8))
    found = [sizes.program_for((40, 64)) for _ in range(4)]  # 1,536 pixels each time
    assert found == [(64, 64), (64, 64), (40, 64), (40, 64)]


def test_every_tile_of_a_picture_counts():
    sizes = Sizes(20_000)
    sizes.program_for((64, 64))
    sizes.program_for((8, 8))
    assert sizes.program_for((40, 64), times=10) == (64, 64)  # 1,536 pixels ten times
    assert sizes.program_for((40, 64), times=10) == (64, 64)
    assert sizes.program_for((40, 64), times=10) == (40, 64)
    assert sizes.program_for((32, 32), times=13) == (40, 64)  # 1,536 pixels more, below 20,000 / 13
    assert sizes.program_for((32, 24), times=13) == (64, 64)  # not below: rounded


def test_a_program_that_was_discarded_is_not_offered():
    sizes = Sizes(100_000)
    for size in [(72, 72), (120, 120), (8, 512)]:
        sizes.program_for(size)
    assert sizes.program_for((80, 80)) == (120, 120)
    sizes.discard((120, 120))
    assert sizes.program_for((88, 88)) == (128, 128)


def test_a_hundred_random_sizes_need_few_programs():
    draw = random.Random(0)
    pictures = [(8 * draw.randint(25, 125), 8 * draw.randint(25, 125)) for _ in range(100)]
    sizes = Sizes(2_000_000)
    used = [sizes.program_for(size) for size in pictures]
    assert len(set(used)) < 20
    assert all(h >= height and w >= width for (h, w), (height, width) in zip(used, pictures, strict=True))
