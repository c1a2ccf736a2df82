"""LPIPS by TorchMetrics, on PyTorch's CPU, with torchvision's AlexNet; both are imported only when needed."""

from collections.abc import Callable
from typing import Any
from urllib.error import URLError

import numpy as np

from multifocal_jax.data.images import one_line
from multifocal_jax.evaluation.metrics import MetricError

BACKBONE = "alexnet-owt-7be5be79.pth"  # torchvision's AlexNet for ImageNet, 233 MB; the linear heads are in the package
LEAST_SIDE = 32  # pixels


def open_lpips() -> Callable[[np.ndarray, np.ndarray | None], float]:
    """The learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1, AlexNet.

    Returns a function of a picture and its ground truth, both (H, W, 3) uint8 RGB: their distance, 0 for equal ones. It
    raises MetricError for pictures that are too small.

    Raises:
        MetricError: TorchMetrics or torchvision are not installed or do not match PyTorch, or the backbone's weights
            are not in PyTorch's cache and cannot be downloaded.
    """
    try:
        import torch
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
        from torchmetrics.image.lpip import (  # pyright: ignore[reportMissingImports]
            LearnedPerceptualImagePatchSimilarity,
        )
    except ImportError as error:
        raise MetricError(
            f"LPIPS needs {error.name}: pip install 'multifocal-jax[metrics]', or leave lpips out"
        ) from None
    except RuntimeError as error:  # torchvision's operators are built for another PyTorch
        raise MetricError(
            f"torchvision does not fit this PyTorch ({one_line(error)}); install both from one index, or leave lpips "
            "out"
        ) from None
    try:
        # Only its network: the metric around it accumulates state, and pictures come from several threads.
        network: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    except (URLError, OSError, RuntimeError) as error:
        raise MetricError(
            f"LPIPS needs AlexNet's weights, which are not available ({one_line(error)}); put {BACKBONE} (torchvision) "
            f"at {torch.hub.get_dir()}/checkpoints/{BACKBONE}, or leave lpips out"
        ) from None

    def measure(*pictures: np.ndarray | None) -> float:
        tensors = []
        for picture in pictures:
            assert picture is not None  # `open_measures` refuses LPIPS without ground truth
            check_size(*picture.shape[:2])
            tensors.append(torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255))
        with torch.no_grad():
            return float(network(*tensors, normalize=True))

    return measure


def check_size(height: int, width: int) -> None:
    """Raise MetricError for a size that is too small for the network."""
    if min(height, width) < LEAST_SIDE:
        raise MetricError(f"a picture of {width}x{height} pixels is too small for LPIPS; {LEAST_SIDE} are needed")
