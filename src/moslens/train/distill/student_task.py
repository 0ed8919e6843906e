"""The losses of the student, with the teacher's targets: one batch in, a dict of losses out (method.md 9.1, 9.6).

    Q stream   labelled crops  -> student -> score            -> L_Q
    D stream   composites      -> student -> block tokens a~ -> u = projection(a~) -> L_CKD against the teacher's e
                                                             -> affinities of a~   -> L_AKD against those of e
                                          -> block quality    -> L_B against the opinion on a block in its uniform view
                                                              -> L_F in the order of distances to the pristine crop
               pristine crops -> backbone   -> maps           -> L_K against those of the pretrained backbone
    P stream   whole photos    -> student -> scores           -> L_P against the opinion on the photo
    V stream   uniform views   -> student -> scores           -> L_V, the same on views of the composites
    R stream   ladders         -> student -> scores           -> L_R, the severity ranking of method.md 13 (extension)
    H stream   photo, changed  -> student -> scores           -> L_H, harmless changes, method.md 15 (extension)
    L = L_Q + ramp (lambda_c L_CKD + lambda_a L_AKD [+ lambda_p L_P + lambda_v L_V + lambda_b L_B] [+ lambda_f L_F]
                    [+ preserve L_K] [+ weight L_R] [+ weight L_H])
    with a ramp that rises from 0 to 1 over the first epoch

The baseline ``kd = "mse"`` is L = L_Q + ramp lambda_m mean |u - e|^2. With ``head = "supervised"`` a head on a~ also
learns the labels of the composites: + ramp lambda_h times the loss of model/block_heads.py.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moslens.blocks import MIN_CHANGE
from moslens.distortions import PAPER_KINDS
from moslens.errors import ConfigError
from moslens.losses import (
    Candidates,
    affinity_distillation,
    batch_candidates,
    block_ranking_loss,
    contrast,
    harmless_loss,
    imitation_loss,
    opinion_loss,
    ranking_loss,
    reference_ranking_loss,
)
from moslens.model import SHDIQA
from moslens.model.baf import mean_pool
from moslens.model.block_heads import SupervisedHead, block_quality
from moslens.model.decoder import LinearDecoder
from moslens.model.pixels import as_float
from moslens.train.config import DistillSection, HarmlessSection, RankSection
from moslens.train.labelled_loss import labelled_loss

EMPTY = -1
REFERENCE_MARGIN = 0.25
"""By how many standard deviations of opinion the worse of two blocks of a composite must lie below the better one."""
CLEARLY_WORSE = 0.02
"""The difference of GMSD from which one block is worse than another."""


class StudentTask(nn.Module):
    """forward: {"q": (crops, labels), "d": {composites, targets, kinds, levels, grid}, "r": {pictures, places, blank}}.

    "p" and "v" are as "q", with opinions for labels; "h" has pairs. Any stream may be missing. Crops and composites are
    uint8 B x 3 x 224 x 224; see ``draw`` of BankBatches, LadderBatches and HarmlessBatches. Returns ``loss``, every
    term of it that the batch gives (``quality``, ``mse``, ``ckd``, ``akd``, ``head``, ``rank``, ``blank``,
    ``rank_blocks``, ``opinion_photos``, ``opinion_views``, ``opinion_blocks``, ``reference_blocks``, ``preserve``,
    ``harmless``), the ``ramp``, and how often a block's embedding is nearest to its own target among those of its
    picture (``in_image``; ``in_image_chance`` for a random one) and of other pictures (``cross_image``).

    ``rank``: its margins in the units of the scores. ``point``: one point of 0 to 100 in them.

    The step count, the queue and the moving average are buffers, so that a resumed run continues exactly. With several
    processes, targets are gathered from all of them, so every process has the same queue and negatives; embeddings of
    students are not gathered.
    """

    step: Tensor
    queue: Tensor
    queue_kinds: Tensor
    queue_levels: Tensor

    def __init__(
        self,
        model: SHDIQA,
        distill: DistillSection,
        steps_an_epoch: int,
        *,
        width: int = 128,
        kinds: tuple[str, ...] = PAPER_KINDS,
        rank: RankSection | None = None,
        harmless: HarmlessSection | None = None,
        point: float = 1.0,
        correlation: float = 0.0,
        mirror: float = 0.0,
    ) -> None:
        super().__init__()
        if distill.head == "supervised" and distill.kd == "none":
            raise ConfigError('distill.head "supervised" learns from the composites: it needs a distill.kd')
        for name in ("lambda_b", "lambda_f"):
            if getattr(distill, name) and isinstance(model.decoder, LinearDecoder):
                raise ConfigError(f'distill.{name} weighs the quality of blocks: decoder "linear" has none')
        self.model = model
        self.distill = distill
        self.rank = rank or RankSection()
        self.harmless = harmless or HarmlessSection()
        self.point = point
        self.correlation = correlation
        self.mirror = mirror
        if self.rank.blocks and model.baf is None:
            raise ConfigError("rank.blocks ranks the blocks of BAF: it needs a model with it")
        self.ramp_steps = distill.ramp * steps_an_epoch
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        projects = distill.kd in ("mse", "ckd", "ckd+akd") or distill.projected
        self.projection = nn.Linear(model.dim, width) if projects and distill.kd != "none" else None
        self.head = SupervisedHead(model.dim, kinds) if distill.head == "supervised" else None
        if "ckd" in distill.kd and distill.negatives == "queue":
            self.register_buffer("queue", torch.zeros(distill.queue, width))
            self.register_buffer("queue_kinds", torch.zeros(distill.queue, dtype=torch.int64))
            self.register_buffer("queue_levels", torch.full((distill.queue,), EMPTY))
        self.pretrained: Any = copy.deepcopy(model.backbone).requires_grad_(False) if distill.preserve else None
        self.average = (
            _AverageTeacher(self.model, self.projection) if distill.view == "ema" and distill.kd != "none" else None
        )

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.step.device)
        if "q" in batch:
            loss, terms = labelled_loss(self.model, batch["q"], self.correlation, self.mirror)
            losses |= terms
            total = total + loss
        ramp = self._ramp()
        if "r" in batch:
            terms = self._rank(batch["r"])
            whole = terms["rank"] + terms["blank"] + self.rank.blocks * terms.get("rank_blocks", 0.0)
            total = total + ramp * self.rank.weight * whole
            losses |= terms
        if "h" in batch:
            losses["harmless"] = self._harmless(batch["h"])
            total = total + ramp * self.harmless.weight * losses["harmless"]
        for name, term, weight in (
            ("p", "opinion_photos", self.distill.lambda_p),
            ("v", "opinion_views", self.distill.lambda_v),
        ):
            if name in batch:
                pictures, opinions, sizes = batch[name]
                losses[term] = opinion_loss(self.model(as_float(pictures), sizes), opinions)
                total = total + ramp * weight * losses[term]
                losses["ramp"] = torch.tensor(ramp)
        if "d" in batch:
            terms = self._distil(batch["d"], scored="q" in batch)
            weights = {
                "mse": self.distill.lambda_m,
                "ckd": self.distill.lambda_c,
                "akd": self.distill.lambda_a,
                "head": self.distill.lambda_h,
                "opinion_blocks": self.distill.lambda_b,
                "reference_blocks": self.distill.lambda_f,
                "preserve": self.distill.preserve,
            }
            for name, weight in weights.items():
                if name in terms:
                    total = total + ramp * weight * terms[name]
            losses |= terms | {"ramp": torch.tensor(ramp)}
        if self.training:
            self.step += 1
        shown = {name: value.detach() for name, value in losses.items() if bool(value.isfinite())}
        return {"loss": total, **shown}

    def _ramp(self) -> float:
        """0 at the first step, 1 from the end of the ramp on."""
        return min(1.0, float(self.step) / self.ramp_steps) if self.ramp_steps else 1.0

    def _rank(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        places, rank = batch["places"], self.rank
        pictures = as_float(torch.cat([batch["pictures"].flatten(0, 1), batch["blank"]]))
        output = self.model.parts(pictures)
        count = places.numel()
        terms = {
            "rank": ranking_loss(output.score[:count].view(places.shape), places, rank.margin, rank.clean_margin),
            "blank": (output.score[count:].float() - rank.floor).clamp_min(0).mean(),
        }
        if rank.blocks:
            quality = block_quality(self.model, output)[:count].view(*places.shape, -1)
            changed = changed_blocks(pictures[:count].view(*places.shape, *pictures.shape[1:]), output.masks[0])
            terms["rank_blocks"] = block_ranking_loss(quality, places, changed, rank.margin)
        return terms

    def _harmless(self, batch: dict[str, Any]) -> Tensor:
        changed = self.model(as_float(batch["changed"]), batch["changed_sizes"])
        # After the pass with gradients: autocast keeps the weights that it casts, here without gradients.
        with torch.no_grad():
            self.model.eval()
            clean = self.model(as_float(batch["clean"]), batch["clean_sizes"])
            self.model.train(self.training)
        return harmless_loss(changed, clean, self.harmless.dead_zone * self.point)

    def _distil(self, batch: dict[str, Any], *, scored: bool) -> dict[str, Tensor]:
        pictures = as_float(batch["composites"])
        output = self.model.parts(pictures, batch["grid"])
        tokens = output.blocks.gated
        embedding = None if self.projection is None else self.projection(tokens)
        targets: Any
        if self.average is None:
            targets = batch.get("targets")  # of a teacher of kinds, if there is one
        else:
            targets = self.average.targets(self.model, self.projection, pictures, batch["grid"], self.distill.decay)
        terms: dict[str, Tensor] = {}
        if self.distill.kd == "mse" and embedding is not None:
            terms["mse"] = imitation_loss(embedding, targets)
        if embedding is not None:
            terms |= self._contrast(embedding, targets, batch["kinds"], batch["levels"])
        if "akd" in self.distill.kd:
            features = embedding if self.distill.projected and embedding is not None else tokens
            terms["akd"] = affinity_distillation(features, targets, mode=self.distill.akd)
        if self.head is not None:
            terms["head"] = self.head.loss(tokens, batch["kinds"], batch["levels"])
        if self.distill.lambda_b and "opinions" in batch:
            terms["opinion_blocks"] = opinion_loss(block_quality(self.model, output), batch["opinions"])
        if self.distill.lambda_f and "distances" in batch:
            terms["reference_blocks"] = reference_ranking_loss(
                block_quality(self.model, output), batch["distances"], REFERENCE_MARGIN, CLEARLY_WORSE
            )
        if self.pretrained is not None and "references" in batch:
            terms["preserve"] = self._preserve(as_float(batch["references"]))
        if not scored:
            # DistributedDataParallel waits for a gradient of every parameter: those of the score get zeros.
            terms["akd" if "akd" in terms else self.distill.kd] += 0.0 * output.score.sum()
        return terms

    def _preserve(self, pictures: Tensor) -> Tensor:
        """L_K = 1 - mean cosine, over the places of each map, between the backbone and the pretrained one."""
        self.pretrained.eval()
        backbone: Any = self.model.backbone
        found = backbone.maps(pictures)
        with torch.no_grad():
            wanted = self.pretrained.maps(pictures)
        pairs = zip(found, wanted, strict=True)
        return 1 - torch.stack([F.cosine_similarity(own.float(), kept.float(), 1).mean() for own, kept in pairs]).mean()

    def _contrast(self, embedding: Tensor, targets: Tensor, kinds: Tensor, levels: Tensor) -> dict[str, Tensor]:
        everyone = batch_candidates(_gather(targets), _gather(kinds), _gather(levels))
        rank, world = _place()
        count = embedding.shape[1]
        blocks = torch.arange(count, device=kinds.device)
        rows = torch.arange(len(kinds), device=kinds.device) * world + rank
        own = (rows[:, None] * count + blocks).flatten()
        contrastive = "ckd" in self.distill.kd
        queued = contrastive and self.distill.negatives == "queue"
        view = contrast(
            embedding.flatten(0, 1),
            own,
            everyone + self._queue() if queued else everyone,
            tau=self.distill.tau,
            negatives=self.distill.negatives if contrastive else "in-batch",
            exclude=self.distill.exclude,
        )
        terms = {
            "in_image": view.accuracy(in_image=True),
            "in_image_chance": view.chance(in_image=True),
            "cross_image": view.accuracy(in_image=False),
        }
        if contrastive:
            terms["ckd"] = view.loss()
        if queued and self.training:
            self._enqueue(everyone)
        return terms

    def _queue(self) -> Candidates:
        earlier = torch.full_like(self.queue_kinds, -1)
        return Candidates(self.queue, self.queue_kinds, self.queue_levels, earlier)

    def _enqueue(self, fresh: Candidates) -> None:
        """Put new targets in front of the queue and drop the oldest."""
        length = len(self.queue)
        for buffer, values in (
            (self.queue, F.normalize(fresh.embeddings.float(), dim=1)),
            (self.queue_kinds, fresh.kinds),
            (self.queue_levels, fresh.levels),
        ):
            buffer.copy_(torch.cat([values, buffer])[:length])


class _AverageTeacher(nn.Module):
    """The moving average of the student as its teacher (R-D): it reads the composite and embeds its block tokens."""

    def __init__(self, model: SHDIQA, projection: nn.Module | None) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.projection = None if projection is None else copy.deepcopy(projection).requires_grad_(False)

    @torch.no_grad()
    def targets(self, model: SHDIQA, projection: nn.Module | None, pictures: Tensor, grid: int, decay: float) -> Tensor:
        """Update the average with the student where that trains, then embed the blocks of the pictures: B x K x D."""
        self.eval()
        for own, current in ((self.model, model), (self.projection, projection)):
            if own is not None and current is not None and model.training:
                torch._foreach_lerp_(list(own.parameters()), list(current.parameters()), 1 - decay)
        tokens: Tensor = self.model.parts(pictures, grid).blocks.gated
        return tokens if self.projection is None else self.projection(tokens)


def changed_blocks(pictures: Tensor, masks: Tensor) -> Tensor:
    """Which blocks differ between two versions of a crop, by ``MIN_CHANGE`` or more on average as in BDM.

    pictures: B x R x 3 x H x W in [0, 1]; masks: K x N tokens of each block -> B x R x R x K bool.
    """
    side = round(masks.shape[1] ** 0.5)
    difference = (pictures[:, :, None] - pictures[:, None]).abs().mean(dim=3)
    tokens = F.adaptive_avg_pool2d(difference.flatten(0, 2), side).flatten(1)
    blocks = mean_pool(tokens[..., None], masks.to(tokens.device))
    return (blocks >= MIN_CHANGE).view(*difference.shape[:3], len(masks))


def _place() -> tuple[int, int]:
    """(rank, processes) of this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _gather(values: Tensor) -> Tensor:
    """The whole batch, of which each process holds every ``world``-th row; without gradient."""
    _, world = _place()
    if world == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world)]
    torch.distributed.all_gather(parts, values.detach().contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
