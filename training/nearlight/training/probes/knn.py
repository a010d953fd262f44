"""Weighted k-nearest-neighbour classification of frozen features."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.errors import DataError
from nearlight.training.probes.features import Features, labels_of
from nearlight.training.sources import Source

K, TEMPERATURE = 200, 0.1


def knn(
    features: Features, bank: Source, query: Source, k: int = K, temperature: float = TEMPERATURE
) -> dict[str, float]:
    """Returns top-1 in percent of one source's images by their nearest neighbours in another.

    Wu et al. 2018, section 3.4: cosine similarity, each of the k nearest votes for its class with weight
    exp(similarity / temperature). Features before the head; one centre view; k = 200, T = 0.1 are those
    of the published CIFAR tables.

    Args:
        features: what makes them.
        bank: labelled images that vote.
        query: labelled images to classify; must not be the bank.
        k: neighbours, cut to the size of the bank.
        temperature: > 0.

    Raises:
        DataError: class names are missing, or the query has one the bank has not.
    """
    if len(bank.classes) < 2:
        raise DataError(f"{bank.name}: kNN needs a label_name for each image and at least two classes")
    classes = sorted(bank.classes)
    guesses = vote(
        features.of(bank), labels_of(bank, classes), features.of(query), len(classes), k, temperature
    )
    hits = (guesses == labels_of(query, classes)).float().mean()
    return {"knn_top1": 100 * float(hits), "images": float(len(query)), "bank": float(len(bank))}


def vote(bank: Tensor, labels: Tensor, query: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Returns (Q,) int64 classes.

    Args:
        bank: (N, D) features; normalised here.
        labels: (N,) int64 of the bank.
        query: (Q, D); normalised here.
        classes: how many there are.
        k: neighbours.
        temperature: > 0.
    """
    stored, asked = F.normalize(bank, dim=1), F.normalize(query, dim=1)
    guesses = []
    for part in torch.split(asked, 1024):
        near = (part @ stored.T).topk(min(k, len(stored)), dim=1)  # (q, k)
        weight = ((near.values - near.values[:, :1]) / temperature).exp()  # the same ratios, no overflow
        votes = torch.zeros(len(part), classes).scatter_add_(1, labels[near.indices], weight)
        guesses.append(votes.argmax(dim=1))
    return torch.cat(guesses)
