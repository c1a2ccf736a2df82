"""The purpose, the data and the known faults of released weights, in words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Purpose:
    """Text for the list of weights and the model card."""

    summary: str  # half a line
    data: str  # half a line
    sources: tuple[str, ...]  # of the data, with terms, a line each
    unfit: tuple[str, ...]  # what weights of this purpose are not for, a line each
    licence: str = "for research, see `multifocal_jax/pretrained/NOTICE`; the code's licence does not cover them"


_RAIN100L = (
    "Rain100L, official training pairs: Yang et al., Deep Joint Rain Detection and Removal from a Single Image "
    "(CVPR 2017); backgrounds from BSDS (Arbeláez et al.), streaks synthesised. Research use."
)
_RAIN800 = (
    "Rain800, 359 of the 700 training pairs: Zhang et al., Image De-raining Using a Conditional Generative Adversarial "
    "Network (2019); backgrounds from UCID and BSDS. Research use."
)
_BSDS500 = (
    "BSDS500, 209 photographs of train and val: Arbeláez et al., Contour Detection and Hierarchical Image Segmentation "
    "(2011). Research use."
)
_RECOMBINED = "Recombined pairs of Rain100L: the rain of one over the background of another, see docs/data.md."
_EVERYWHERE = (
    "Evidence. The network fills in its estimate of what is behind the rain; a detail of the result need not have been "
    "there.",
    "Raindrops on the lens, fog, snow, wet ground and reflections: none were trained on.",
)

PURPOSES = {
    "general": Purpose(
        "photographs of every kind, with little, much or no rain",
        "rain100l and recombinations of it, rain800, synthesised rain of every style and none over photographs, and "
        "lookalikes of rain",
        (
            _RAIN100L,
            _RECOMBINED,
            _RAIN800,
            _BSDS500,
            "Synthesised rain and drawings that look like rain: this project's, see docs/rain.md.",
        ),
        (
            *_EVERYWHERE,
            "Photographs taken in rain: trained and scored with synthesised rain, as no clean side exists for these.",
            "Comparison in papers: networks there are trained on one published set; use weights trained on that set.",
        ),
    ),
    "rain100l": Purpose(
        "pictures like those of Rain100L, for comparison",
        "the rain100l training pairs, 20 of 200 held out, and recombinations of the others",
        (_RAIN100L, _RECOMBINED),
        (
            *_EVERYWHERE,
            "Heavy rain, and photographs taken in rain: only Rain100L's five kinds of light streaks were trained on.",
        ),
    ),
    "demo": Purpose(
        "the result of `make demo`, for tests",
        "five photographs under synthesised heavy rain",
        (
            "Photographs that scikit-image carries: astronaut (NASA, public domain), coffee, motorcycle, rocket (CC0).",
            "Synthesised rain: this project's, see docs/rain.md.",
        ),
        (*_EVERYWHERE, "Anything but tests: the network is tiny and was trained for minutes."),
        licence="the code's; the photographs are in the public domain or under CC0",
    ),
}

FAULTS = {  # seen in the results of these very weights, a line each
    "general-small": (
        "Downpours, dense fine rain and short blurred drops go in part only, as the pictures above show.",
        "Grass and the like: single bright blades are taken for rain, see docs/rain.md.",
        "Over a smooth dark sky faint marks stay where streaks were, as the pictures above show.",
    ),
    "rain100l-small": (
        "Thin upright structures, such as masts and lattice towers, are taken for rain in large part, as the picture "
        "without rain above shows.",
    ),
}


def purpose_of(name: str) -> Purpose | None:
    """The purpose of released weights; `general-small` is `general` with a smaller network."""
    return PURPOSES.get(name.removesuffix("-small"))
