"""Train a small convolutional network and export it; the only file here that imports PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

CONFIG = """\
max_batch_size: 64
input { name: "pixels" data_type: TYPE_FP32 dims: [ 64 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 10 ] }
"""


class Classifier(nn.Module):
    """Takes raw pixels 0..16 `[batch, 64]`, answers the probability of each digit `[batch, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 10),
        )

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """The scores before softmax, for training."""
        scores: torch.Tensor = self.network(pixels / 16)
        return scores

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The probability of each digit."""
        return self.logits(pixels).softmax(dim=1)


def train_torch(
    train_pixels: npt.NDArray[np.float32],
    train_labels: npt.NDArray[np.int64],
    folder: Path,
    seed: int,
) -> None:
    """Write an exported program with a free batch dimension, and its config.pbtxt."""
    torch.manual_seed(seed)
    classifier = Classifier()
    pixels, labels = torch.from_numpy(train_pixels), torch.from_numpy(train_labels)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    for _ in range(15):
        for rows in torch.randperm(len(pixels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(classifier.logits(pixels[rows]), labels[rows]).backward()
            optimizer.step()
    program = torch.export.export(
        classifier.eval(),
        (pixels[:2],),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
    )
    (folder / "1").mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / "1" / "model.pt2")
    (folder / "config.pbtxt").write_text(CONFIG)
