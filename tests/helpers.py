"""What tests of commands share."""

# An extra, a module of it, and a command that needs it.
NEEDING = [
    ("onnx", "onnx", "export demo network.onnx"),
    ("onnx", "onnxruntime", "export demo network.onnx"),
    ("torch", "torch", "convert demo weights.pth"),
    ("torch", "torch", "convert demo --verify"),
    ("metrics", "torch", "evaluate --config rain100l --weights demo --metrics lpips"),
    ("metrics", "torchmetrics", "evaluate --config rain100l --weights demo --metrics lpips"),
    ("detection", "cv2", "paper detection street.png -o out"),
    ("demo", "skimage", "train --config demo"),
    ("gcs", "gcsfs", "evaluate --workdir gs://bucket/run"),
    ("web", "gradio", "web"),
]
