"""Fit the correction of a finished student: the order of severity and harmless changes, without a step of the network.

    photos    views of the labelled training photos   the correction is 0 there: opinions are the network's
    ladders   all versions of crops that get worse    L_R, and the clean ones are not corrected either
    blanks    frames that show nothing                below a floor
    pairs     photos before and after a change        L_H

The features of all of them are computed once. Fitting a small net on them takes less than a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moslens.data.labelled_views import LabelledViews, stack_padded
from moslens.losses import harmless_loss, ranking_loss
from moslens.model import SHDIQA
from moslens.model.pixels import as_float
from moslens.system.progress import tracked
from moslens.train.config import HarmlessSection, RankSection
from moslens.train.distill.harmless_pairs import HarmlessPairs
from moslens.train.distill.ladder_bank import LadderBatches, blank_frame

log = logging.getLogger(__name__)

VIEWS = 2
LADDERS = 1200
BLANKS = 120
PAIRS = 1000
STEPS = 4000
RATE = 1e-3
DECAY = 0.1
BATCH = 32
_BETA = 0.1
"""Where SmoothL1 turns from square to line for a correction that should be 0, in units of the label."""
_SEED = 12


@dataclass(frozen=True)
class Read:
    """What the network says of N pictures: features N x F, and scores N without a correction."""

    features: Tensor
    scores: Tensor

    def corrected(self, model: SHDIQA, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The corrected scores of some pictures, and what the correction adds to each."""
        assert model.correction is not None
        added = model.correction(self.features[chosen])
        return self.scores[chosen] + added, added


@dataclass(frozen=True)
class Material:
    """``rungs``: ladders x 6 ints, which of the ladders' pictures each version is, the last one again where there are
    fewer; ``places``: the place of each on its ladder. Pair p is pictures 2 p and 2 p + 1 of ``pairs``."""

    photos: Read
    ladders: Read
    rungs: Tensor
    places: Tensor
    blanks: Read
    pairs: Read | None


def fit_correction(
    model: SHDIQA,
    views: LabelledViews,
    ladders: LadderBatches,
    pairs: HarmlessPairs | None,
    rank: RankSection,
    harmless: HarmlessSection,
    point: float,
    seed: int,
    *,
    half: bool = False,
) -> None:
    """Fit ``model.correction``, in place; no other weight changes. The same arguments give the same weights.

    views: the labelled training photos; pairs: photos for harmless changes, None where they play no part; rank: with
    margins in units of the standardised label; point: one point of 0 to 100 in them; half: read pictures in bf16.
    """
    count = min(LADDERS, len(ladders.bank.counts))
    log.info("reading %d ladders and other pictures, to fit the correction on them", count)
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        material = read_material(model, views, ladders, pairs, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _learn(model, material, rank, harmless, point)


def read_material(
    model: SHDIQA, views: LabelledViews, ladders: LadderBatches, pairs: HarmlessPairs | None, seed: int
) -> Material:
    """The features of everything that a correction is fitted on."""
    bank = ladders.bank
    counts = bank.counts.astype(np.int64)
    entries = np.linspace(0, len(counts), min(LADDERS, len(counts)), endpoint=False).astype(np.int64)
    versions = np.arange(bank.pictures.shape[1])
    places = np.minimum(versions, counts[entries, None] - 1)
    first = np.concatenate([[0], counts[entries].cumsum()[:-1]])
    shown = (bank.pictures[entry][place].copy() for entry in entries for place in range(counts[entry]))
    size = bank.pictures.shape[-1]
    frames = (blank_frame(np.random.default_rng((seed, _SEED, number)), size) for number in range(BLANKS))
    keys = [(_SEED, index, repeat) for repeat in range(VIEWS) for index in range(len(views))]
    return Material(
        photos=read(model, (views.view(*key) for key in keys), len(keys), "photos"),
        ladders=read(model, map(torch.from_numpy, shown), int(counts[entries].sum()), "ladders"),
        rungs=torch.from_numpy(first[:, None] + places),
        places=torch.from_numpy(places).to(next(model.parameters()).device),
        blanks=read(model, map(torch.from_numpy, frames), BLANKS, "blank frames"),
        pairs=None if pairs is None else read(model, _both(pairs, seed), 2 * PAIRS, "harmless changes"),
    )


def read(model: SHDIQA, pictures: Iterable[Tensor], count: int, name: str) -> Read:
    """Features and scores of ``count`` pictures, uint8 3 x H x W; ``name``: what they are, for the progress bar."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    features, scores = [], []
    with torch.inference_mode():
        for batch in _alike(tracked(pictures, f"reading {name}", count)):
            padded, sizes = stack_padded(batch)
            output = model.parts(as_float(padded.to(device)), sizes=sizes.to(device))
            features.append(output.of_picture().float())
            scores.append(output.score.float())
    model.train(training)
    return Read(torch.cat(features).clone(), torch.cat(scores).clone())


def _alike(pictures: Iterable[Tensor], most: int = 8) -> Iterator[list[Tensor]]:
    """Pictures in their order, as many as follow each other with one shape, at most ``most``."""
    batch: list[Tensor] = []
    for picture in pictures:
        if batch and (len(batch) == most or picture.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def _both(pairs: HarmlessPairs, seed: int) -> Iterator[Tensor]:
    """``PAIRS`` pairs, one picture after the other."""
    rng = np.random.default_rng((seed, _SEED))
    for index in rng.integers(len(pairs), size=PAIRS):
        for picture in pairs.pair(int(index), rng):
            yield torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _learn(model: SHDIQA, material: Material, rank: RankSection, harmless: HarmlessSection, point: float) -> None:
    correction = model.correction
    assert correction is not None
    every = [material.photos, material.ladders, material.blanks, *([material.pairs] if material.pairs else [])]
    correction.scale.fit(torch.cat([each.features for each in every]))
    correction.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(correction.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        losses = _losses(model, material, rank, harmless, point)
        loss = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step in (0, STEPS - 1):
            log.info(
                "correction: %s", ", ".join(f"{name} {float(value.detach()):.4f}" for name, value in losses.items())
            )
    correction.requires_grad_(False).eval()


def _losses(
    model: SHDIQA, material: Material, rank: RankSection, harmless: HarmlessSection, point: float
) -> dict[str, Tensor]:
    """The terms of one step, each with its weight."""
    _, on_photos = material.photos.corrected(model, _some(len(material.photos.scores), 2 * BATCH))
    chosen = _some(len(material.rungs), BATCH)
    scores, added = material.ladders.corrected(model, material.rungs[chosen])
    blank, _ = material.blanks.corrected(model, _some(len(material.blanks.scores), BATCH // 2))
    losses = {
        "photos": _none(on_photos),
        "clean": _none(added[:, 0]),
        "rank": rank.weight * ranking_loss(scores, material.places[chosen], rank.margin, rank.clean_margin),
        "blank": rank.weight * (blank - rank.floor).clamp_min(0).mean(),
    }
    if material.pairs is not None:
        rows = 2 * _some(len(material.pairs.scores) // 2, BATCH)[:, None] + torch.arange(2)
        both, shifts = material.pairs.corrected(model, rows)
        losses["clean"] = losses["clean"] + _none(shifts[:, 0])
        losses["harmless"] = harmless.weight * harmless_loss(both[:, 1], both[:, 0], harmless.dead_zone * point)
    return losses


def _none(added: Tensor) -> Tensor:
    """The loss of a correction where none is due."""
    return F.smooth_l1_loss(added, torch.zeros_like(added), beta=_BETA)


def _some(of: int, count: int) -> Tensor:
    return torch.randint(of, (count,))
