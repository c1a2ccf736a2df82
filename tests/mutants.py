"""Damaged copies of a file."""

import random
from collections.abc import Iterator


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """So many copies with bits flipped, cut short, or with bytes lost, added or moved; the same for a seed."""
    dice = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(content)
        kind = dice.choice(("flip", "flip", "cut", "lose", "add", "overwrite", "swap"))
        # Half of them in the first kilobyte or the last, where formats keep what they are made of.
        edge = dice.choice((0, max(0, len(mutant) - 1024), None, None))
        where = dice.randrange(len(mutant)) if edge is None else edge + dice.randrange(min(1024, len(mutant)))
        length = dice.choice((1, 2, 4, 8, 64))
        if kind == "flip":
            for _ in range(dice.choice((1, 1, 8))):
                mutant[where] ^= 1 << dice.randrange(8)
                where = dice.randrange(len(mutant))
        elif kind == "cut":
            del mutant[where:]
        elif kind == "lose":
            del mutant[where : where + length]
        elif kind == "add":
            mutant[where:where] = dice.randbytes(length)
        elif kind == "overwrite":
            mutant[where : where + length] = dice.choice((b"\x00", b"\xff")) * length
        else:
            other = dice.randrange(len(mutant))
            mutant[where : where + length], mutant[other : other + length] = (
                mutant[other : other + length],
                mutant[where : where + length],
            )
        yield bytes(mutant)
