"""What tests of commands share."""

# An extra, a module of it, and a command that needs it.
NEEDING = [
    ("onnx", "onnx", "derain-export demo network.onnx"),
    ("onnx", "onnxruntime", "derain-export demo network.onnx"),
    ("torch", "torch", "convert_weights.py demo weights.pth"),
    ("torch", "torch", "convert_weights.py demo --verify"),
    ("metrics", "torch", "evaluate.py --config CONFIGS/rain100l.py --weights demo --metrics lpips"),
    ("metrics", "torchmetrics", "evaluate.py --config CONFIGS/rain100l.py --weights demo --metrics lpips"),
    ("detection", "cv2", "-m multifocal_jax.paper detection street.png -o out"),
    ("demo", "skimage", "train.py --config CONFIGS/demo.py"),
    ("gcs", "gcsfs", "evaluate.py --workdir gs://bucket/run"),
]
