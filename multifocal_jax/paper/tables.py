"""The tables of the paper: its numbers, and the commands that measure ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line: what the paper says, and the config that measures it.

    Attributes:
        label: as in the paper.
        quoted: PSNR in dB and SSIM on luma as printed in the paper, a pair for each column of the table.
        configs: the config that measures each column; empty for the methods of others.
    """

    label: str
    quoted: tuple[tuple[float, float], ...]
    configs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the paper: what it compares, the data sets, and its rows in the paper's order."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def _table(title: str, columns: str, text: str) -> Table:
    """A table of lines `LABEL | PSNR SSIM … | CONFIG …`, with a pair of numbers for each column."""
    rows = []
    for line in text.strip().splitlines():
        label, numbers, configs = (part.strip() for part in line.split("|"))
        pairs = zip(*[map(float, numbers.split())] * 2, strict=True)
        rows.append(Row(label, tuple(pairs), tuple(configs.split())))
    return Table(title, tuple(columns.split()), tuple(rows))


TABLES = {
    "table1": _table(
        "Components of the network",
        "Rain200H",
        """
        Model-1: Gaussian pyramid | 29.32 0.893 | ablation:model_1
        Model-2: down-sampling pyramid | 28.73 0.874 | ablation:model_2
        Model-3: no cross-scale interaction | 29.12 0.884 | ablation:model_3
        Model-4: interaction by convolution | 29.21 0.890 | ablation:model_4
        Model-5: spatial CSSAB only | 30.01 0.900 | ablation:model_5
        Model-6: channel CSSAB only | 29.97 0.900 | ablation:model_6
        Ours | 30.17 0.906 | rain200h
        """,
    ),
    "table2": _table(
        "Heads of the channel CSSAB",
        "Rain200H",
        """
        1 | 29.50 0.895 | ablation:heads_1
        2 | 29.77 0.899 | ablation:heads_2
        4 | 30.17 0.906 | rain200h
        8 | 29.46 0.894 | ablation:heads_8
        16 | 29.64 0.896 | ablation:heads_16
        """,
    ),
    "table3": _table(
        "Basic modules",
        "Rain200H",
        """
        6 | 29.34 0.893 | ablation:modules_6
        7 | 29.70 0.897 | ablation:modules_7
        8 | 30.17 0.906 | rain200h
        9 | 29.84 0.901 | ablation:modules_9
        10 | 29.87 0.900 | ablation:modules_10
        """,
    ),
    "table4": _table(
        "Kernel numbers, read as feature maps",
        "Rain200H",
        """
        32 | 28.82 0.882 | ablation:channels_32
        64 | 30.17 0.906 | rain200h
        96 | 29.01 0.884 | ablation:channels_96
        """,
    ),
    "table5": _table(
        "Trained on Rain200H, tested on SPA-data",
        "SPA-data",
        """
        MSPFN | 31.01 0.936 |
        DRDNet | 33.56 0.948 |
        DCSFN | 34.53 0.952 |
        RainRemoval | 34.45 0.953 |
        Ours | 35.25 0.955 | spa
        """,
    ),
    "table6": _table(
        "Benchmark data sets",
        "Rain200H Rain200L DID",
        """
        GMM | 14.50 0.418 28.56 0.870 25.81 0.796 |
        JCAS | 14.69 0.502 29.79 0.898 25.16 0.822 |
        DDN | 26.05 0.805 34.68 0.967 30.97 0.885 |
        DID-MDN | 25.02 0.842 35.40 0.962 29.66 0.901 |
        RESCAN | 26.75 0.835 36.09 0.970 33.38 0.918 |
        NLEDN | 29.85 0.899 39.83 0.984 34.68 0.936 |
        JORDER | 29.35 0.890 39.12 0.984 34.06 0.931 |
        PReNet | 29.04 0.899 37.25 0.979 33.17 0.928 |
        SPANet | 26.27 0.866 35.79 0.965 33.04 0.928 |
        MSPFN | 28.99 0.888 39.03 0.982 34.51 0.935 |
        DRDNet | 29.03 0.885 38.84 0.982 33.73 0.923 |
        DCSFN | 29.46 0.893 38.86 0.983 34.77 0.938 |
        RainRemoval | 29.32 0.900 39.78 0.985 33.48 0.921 |
        Ours | 30.17 0.906 40.38 0.987 35.00 0.940 | rain200h rain200l did
        """,
    ),
}
