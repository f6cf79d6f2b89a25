"""What is measured, in one place, so that a test can run all of it in small."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes of the networks, the pictures and the tiles.

    Attributes:
        network: which one, a name in ``networks.NETWORKS``.
        size: side of the picture; the tall one is four times as high. Other networks run over
            theirs, as large as in the table where this is 2048.
        tile: side of a tile, its halo included.
        base: channels of the U-Net's first block.
        depth: its halvings.
        deep: halvings of the deeper one, for the exact tiles.
        filter_size: side of the picture that is filtered.
        piece: samples of a signal that a whole pass gets, from the first on; 0 for all of them.
        rounds: how often every contender runs after its first pass; exact tiles run once.
        threads: of each contender.
        processor_time: count the time that the processor spent, not the time that went by. With
            one thread that can be compared on a busy machine too.
    """

    network: str = "unet32"
    size: int = 2048
    tile: int = 512
    base: int = 32
    depth: int = 4
    deep: int = 5
    filter_size: int = 20_000
    piece: int = 0
    rounds: int = 3
    threads: int = 2
    processor_time: bool = False
