"""Gated attention for bags of features (Ilse, Tomczak and Welling, 2018)."""

import torch
from torch import nn


class GatedAttention(nn.Module):
    """One logit per bag: the weighted mean of its patches, with weights that it learns.

    Parameters
    ----------
    width : int
        Numbers per patch.
    hidden : int
        Numbers per patch inside the model.
    """

    def __init__(self, width: int, hidden: int = 16) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(0.25))
        self.tanh = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(hidden, hidden), nn.Sigmoid())
        self.score = nn.Linear(hidden, 1)
        self.classify = nn.Linear(hidden, 1)

    def forward(self, bag: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logit of a bag (N, width), and the raw attention of its patches (N,)."""
        inside = self.embed(bag)
        raw = self.score(self.tanh(inside) * self.gate(inside)).squeeze(1)
        mean = torch.softmax(raw, dim=0) @ inside
        return self.classify(mean).squeeze(0), raw
