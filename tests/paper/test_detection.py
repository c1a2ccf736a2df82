"""What is around the detector; the detector itself is OpenCV's, replaced here by one that answers by hand."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from multifocal_jax.cli.main import run
from multifocal_jax.paper.detection import DetectionError, Person, draw_people, people_detector
from tests.evaluation.helpers import save_tiny


class Descriptor:
    """In OpenCV's place: sees a person in the brightest quarter, and a worse one everywhere."""

    @staticmethod
    def getDefaultPeopleDetector():  # noqa: N802 - OpenCV's name
        return "weights"

    def setSVMDetector(self, weights):  # noqa: N802 - OpenCV's name
        assert weights == "weights"

    def detectMultiScale(self, picture, hitThreshold, winStride, scale):  # noqa: N802, N803 - OpenCV's names
        height, width = picture.shape[:2]
        assert height >= 128
        assert width >= 64
        assert picture[0, 0, 2] > picture[0, 0, 0]  # blue, green, red
        return np.array([[0, 0, width, height], [0, 0, width // 2, height // 2]]), np.array([[0.5], [1.5]])


@pytest.fixture
def opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(HOGDescriptor=Descriptor))


RED = np.broadcast_to(np.array([200, 20, 10], np.uint8), (64, 48, 3))


def test_boxes_are_of_the_given_picture(opencv):
    """It is enlarged for the detector's window of 64×128."""
    assert people_detector()(RED) == [Person(0, 0, 24, 32, 1.5), Person(0, 0, 48, 64, 0.5)]


def test_drawing():
    drawn = draw_people(RED, [Person(10, 20, 20, 30, 1.5)])
    assert tuple(drawn[50, 20]) == (255, 40, 40)  # the box's lower side
    np.testing.assert_array_equal(drawn[:20], RED[:20])


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DetectionError, match=r"OpenCV: pip install 'multifocal-jax\[detection\]'"):
        people_detector()


def test_command(opencv, tmp_path, capsys):
    weights = save_tiny(tmp_path / "w.safetensors")
    Image.fromarray(RED).save(tmp_path / "street.png")
    command = ["paper", "detection", str(tmp_path / "street.png"), "-o", str(tmp_path / "out"), "--weights", weights]
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| street.png | 2 (1.50, 0.50) | ")
    assert (tmp_path / "out" / "street.png").is_file()
    assert run([*command, "--overwrite"]) == 0
