"""LPIPS by TorchMetrics, on PyTorch's CPU, with torchvision's AlexNet; both are imported only when needed."""

from typing import Any
from urllib.error import URLError

import numpy as np

from multifocal_jax.evaluation.metrics import MetricError

BACKBONE = "alexnet-owt-7be5be79.pth"  # torchvision's AlexNet for ImageNet, 233 MB; the linear heads are in the package

LEAST_SIDE = 32  # pixels


class Lpips:
    """The learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1, AlexNet.

    Raises:
        MetricError: TorchMetrics or torchvision are not installed or do not match PyTorch, or the backbone's weights
        are
            not in PyTorch's cache and cannot be downloaded.
    """

    def __init__(self) -> None:
        try:
            import torch
            import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
            from torchmetrics.image.lpip import (  # pyright: ignore[reportMissingImports]
                LearnedPerceptualImagePatchSimilarity,
            )
        except ImportError as error:
            raise MetricError(
                f"LPIPS needs {error.name}; install it with: pip install '.[metrics]', or leave lpips out"
            ) from None
        except RuntimeError as error:  # torchvision's operators are built for another PyTorch
            raise MetricError(
                f"torchvision does not fit this PyTorch ({_line(error)}); install both from one index, or leave lpips "
                "out"
            ) from None
        self._torch: Any = torch
        try:
            # Only its network: the metric around it accumulates state, and pictures come from several threads.
            self._net: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
        except (URLError, OSError, RuntimeError) as error:
            place = f"{torch.hub.get_dir()}/checkpoints/{BACKBONE}"
            raise MetricError(
                f"LPIPS needs AlexNet's weights, which are not available ({_line(error)}); put {BACKBONE} "
                f"(torchvision) at {place}, or leave lpips out"
            ) from None

    def __call__(self, picture: np.ndarray, clean: np.ndarray) -> float:
        """Distance of two pictures, 0 for equal ones.

        Args:
            picture: (H, W, 3) uint8 RGB.
            clean: its ground truth, likewise.

        Raises:
            MetricError: the picture is too small for the network.
        """
        check_size(*picture.shape[:2])
        with self._torch.no_grad():
            return float(self._net(self._tensor(picture), self._tensor(clean), normalize=True))

    def _tensor(self, picture: np.ndarray) -> Any:
        """(1, 3, H, W) in [0, 1]."""
        return self._torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def check_size(height: int, width: int) -> None:
    """Refuse sizes that are too small.

    Raises:
        MetricError: a picture of this size is too small.
    """
    if min(height, width) < LEAST_SIDE:
        raise MetricError(f"a picture of {width}x{height} pixels is too small for LPIPS; {LEAST_SIDE} are needed")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
