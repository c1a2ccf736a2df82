"""The published data sets: how many pairs they have and how their archives are laid out."""

from dataclasses import dataclass
from typing import Literal

Arrangement = Literal["folders", "rainy_left", "clean_left", "list"]


@dataclass(frozen=True)
class PublishedSet:
    """What is known of a set before one looks at the files."""

    title: str
    sizes: dict[str, int]  # pairs of each split
    archive: str  # what to get, and where it is described
    layout: str = (  # one line that shows the files expected
        "{train,test}/{rain,norain}/ with equal names, {train,test}/{input,target}/, or "
        "norain-N.png with norain-Nx2.png in rain/ or rain/X2/"
    )
    arrangement: Arrangement = "folders"  # two folders, one file with both sides, or a list of pairs
    ignored: tuple[str, ...] = ()  # folders that look like a split and hold no pairs


_JORDER = "Yang et al., Deep Joint Rain Detection and Removal from a Single Image, CVPR 2017 (JORDER)"

PUBLISHED: dict[str, PublishedSet] = {  # by the name in SourceConfig.dataset
    "rain200h": PublishedSet(
        "Rain200H",
        {"train": 1800, "test": 200},
        f"the archives rain_data_train_Heavy and rain_data_test_Heavy of {_JORDER}",
    ),
    "rain200l": PublishedSet(
        "Rain200L",
        {"train": 1800, "test": 200},
        f"the archives rain_data_train_Light and rain_data_test_Light of {_JORDER}",
    ),
    "rain100h": PublishedSet(
        "Rain100H",
        {"train": 1800, "test": 100},
        f"the first release of {_JORDER}",
        f"{PublishedSet.layout}, or rain-NNN.png with norain-NNN.png",
    ),
    "rain100l": PublishedSet("Rain100L", {"train": 200, "test": 100}, f"the first release of {_JORDER}"),
    "rain800": PublishedSet(
        "Rain800",
        {"train": 700, "test": 100},
        "Zhang et al., Image De-raining Using a Conditional Generative Adversarial Network, TCSVT 2019 (ID-CGAN)",
        "{training,test_syn}/*.jpg or {train,test}/*.jpg, each with the clean picture left and the rainy right",
        "clean_left",
        ignored=("test_nature",),
    ),
    "rain1400": PublishedSet(
        "Rain1400",
        {"train": 12600, "test": 1400},
        "the archive rainy_image_dataset of Fu et al., Removing Rain from Single Images via a Deep Detail Network, "
        "CVPR 2017 (DDN)",
        "{training,testing}/rainy_image/N_K.jpg with {training,testing}/ground_truth/N.jpg",
    ),
    "did": PublishedSet(
        "DID",
        {"train": 12000, "test": 1200},
        "the archives DID-MDN-training and DID-MDN-test of Zhang and Patel, Density-aware Single Image De-raining, "
        "CVPR 2018 (DID-MDN)",
        "DID-MDN-training/Rain_{Heavy,Medium,Light}/train2018new/*.jpg and DID-MDN-test/*.jpg, each with the "
        "rainy picture left and the clean right",
        "rainy_left",
    ),
    "spa": PublishedSet(
        "SPA-data",
        {"train": 638492, "test": 1000},
        "the data set of Wang et al., Spatial Attentive Single-Image Deraining, CVPR 2019 (SPANet)",
        "a list such as real_world.txt for training and real_test_1000.txt for the test, one `RAINY CLEAN` a line, "
        "paths counted from the list's folder",
        "list",
    ),
}
