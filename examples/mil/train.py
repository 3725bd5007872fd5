r"""Train gated attention on the folds of a split, and write its attention as predictions.

    python examples/mil/train.py mil/run --features mil/run/features/lite0 \
        --target state --positive planted --out mil/attention.parquet

An example, and not a clinical model. Each patient is scored by models that have not seen it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from model import GatedAttention
from sklearn.metrics import roc_auc_score

import qupath_bridge as qb

EPOCHS, BATCH, RATE, DECAY = 30, 8, 1e-3, 0.1
RESAMPLES = 2000

Bags = list[tuple[torch.Tensor, float]]


@dataclass(frozen=True)
class Scored:
    """What models say of bags that they have not seen.

    Attributes
    ----------
    logits : array of shape (S, B)
        Of each seed and bag.
    attention : list of array of shape (S, N)
        Raw attention of each bag, by seed and patch.
    """

    logits: np.ndarray
    attention: list[np.ndarray]


def train(bags: Bags, seed: int) -> tuple[GatedAttention, torch.Tensor, torch.Tensor]:
    """Return a model, and the mean and deviation of the features that it was trained on."""
    torch.manual_seed(seed)
    patches = torch.cat([bag for bag, _ in bags])
    mean, deviation = patches.mean(dim=0), patches.std(dim=0) + 1e-6
    model = GatedAttention(patches.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(EPOCHS):
        for numbers in torch.randperm(len(bags)).split(BATCH):
            chosen = [bags[number] for number in numbers]
            logits = torch.stack([model((bag - mean) / deviation)[0] for bag, _ in chosen])
            truth = torch.tensor([each for _, each in chosen])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), mean, deviation


@torch.no_grad()
def apply(model: GatedAttention, bag: torch.Tensor) -> tuple[float, np.ndarray]:
    """Return the logit of a bag and its raw attention."""
    logit, raw = model(bag)
    return float(logit), raw.numpy()


def cross_validate(folds: list[list[torch.Tensor]], truth: np.ndarray, seeds: int) -> Scored:
    """Score the bags of each fold by models that were trained on all other folds."""
    values = iter(truth.tolist())
    labelled = [[(bag, next(values)) for bag in fold] for fold in folds]
    scored = []
    for held, fold in enumerate(folds):
        others = [bag for number, part in enumerate(labelled) if number != held for bag in part]
        models = [train(others, seed) for seed in range(seeds)]
        scored += [
            [apply(model, (bag - mean) / std) for model, mean, std in models] for bag in fold
        ]
    return Scored(
        logits=np.array([[logit for logit, _ in each] for each in scored]).T,
        attention=[np.stack([raw for _, raw in each]) for each in scored],
    )


def interval(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the AUC: percentiles of a bootstrap over bags, by class."""
    rng = np.random.default_rng(0)
    classes = [np.flatnonzero(truth == value) for value in (0, 1)]
    drawn = [np.concatenate([rng.choice(c, len(c)) for c in classes]) for _ in range(RESAMPLES)]
    low, high = np.percentile([roc_auc_score(truth[d], scores[d]) for d in drawn], [2.5, 97.5])
    return float(low), float(high)


def show(folds: list[list[torch.Tensor]], truth: np.ndarray, seeds: int) -> Scored:
    """Cross-validate, and print the AUC with its interval."""
    scored = cross_validate(folds, truth, seeds)
    scores = scored.logits.mean(axis=0)
    low, high = interval(truth, scores)
    each = ", ".join(f"{roc_auc_score(truth, one):.3f}" for one in scored.logits)
    print(f"AUC of each seed: {each}")
    print(
        f"AUC of their mean: {roc_auc_score(truth, scores):.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}, bootstrap over bags)"
    )
    return scored


def show_control(folds: list[list[torch.Tensor]], truth: np.ndarray, times: int) -> None:
    """Print the AUC of labels that say nothing: those of the bags, shuffled."""
    aucs = []
    for seed in range(times):
        mixed = np.random.default_rng(seed).permutation(truth)
        aucs.append(roc_auc_score(mixed, cross_validate(folds, mixed, seeds=1).logits[0]))
    print(f"AUC of shuffled labels: {', '.join(f'{auc:.3f}' for auc in aucs)}")
    print(f"mean: {np.mean(aucs):.3f}")


def main() -> None:
    """Print the AUC with its interval, and write the table of attention."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run with a split")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--target", required=True, help="metadata that are the label of a bag")
    parser.add_argument("--positive", required=True, help="the class that is looked for")
    parser.add_argument("--by", default="patient", help="metadata of what is one bag")
    parser.add_argument("--split", default="folds")
    parser.add_argument("--seeds", type=int, default=3, help="models per fold")
    parser.add_argument("--shuffled", type=int, help="control: shuffle the labels N times instead")
    parser.add_argument("--out", type=Path, help="table of attention to write")
    given = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small: more threads only wait for each other
    index = qb.read_index(given.run, split=given.split)
    names = sorted(set(index["fold"].drop_null().to_pylist()) - {"test"})
    options = {"target": given.target, "by": given.by, "split": given.split}
    parts = [qb.torch.BagDataset(given.run, given.features, fold=name, **options) for name in names]
    positive = parts[0].classes.index(given.positive)
    truth = np.array([target == positive for part in parts for target in part.targets], float)
    folds = [[part[number][0] for number in range(len(part))] for part in parts]
    print(f"{len(truth)} bags, {int(truth.sum())} of them {given.positive}")
    if given.shuffled:
        show_control(folds, truth, given.shuffled)
        return
    scored = show(folds, truth, given.seeds)
    if given.out:
        ids = [name for part in parts for bag in part.patch_ids for name in bag]
        raw = np.concatenate([attention.mean(axis=0) for attention in scored.attention])
        table = pa.table({"patch_id": ids, f"attention score {given.positive}": raw})
        pq.write_table(table, given.out)


if __name__ == "__main__":
    main()
