"""The training losses, one function each (docs/method.md 9.6). All compute in float32, whatever the autocast mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moslens.errors import ConfigError

NEGATIVES = ("in-image", "in-batch", "queue")
AFFINITIES = ("mse", "kl", "cross")


def quality_loss(prediction: Tensor, label: Tensor, correlation: float = 0.0) -> Tensor:
    """L_Q = SmoothL1(yhat, (y - mu) / sd) + correlation (1 - Pearson(yhat, y)); both B, in standardised label units.

    The second term, off by default, rewards predictions that rise with the labels of the batch, whatever their mean and
    spread.
    """
    loss = F.smooth_l1_loss(prediction, label)
    if correlation:
        ours, theirs = ((v - v.mean()).float() for v in (prediction, label))
        loss = loss + correlation * (1 - F.cosine_similarity(ours, theirs, dim=0, eps=1e-4))
    return loss


@dataclass(frozen=True)
class Candidates:
    """M teacher embeddings (M x D) to contrast anchors with, and the kind, level and picture number of each (M).

    Kind -1 with level 0 is pristine. An entry with level -1 is empty and never used. Blocks of one picture have the
    same picture number; numbers below 0 are from earlier batches.
    """

    embeddings: Tensor
    kinds: Tensor
    levels: Tensor
    pictures: Tensor

    def __add__(self, other: Candidates) -> Candidates:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Candidates(*(torch.cat([mine, theirs]) for mine, theirs in pairs))


@dataclass(frozen=True)
class Contrast:
    """Logits s of N anchors and M candidates, and masks of the pairs: positive, negative, same picture; all N x M."""

    scores: Tensor
    positive: Tensor
    negative: Tensor
    same_picture: Tensor

    def loss(self) -> Tensor:
        """-mean_i log [e^{s_ii} / (e^{s_ii} + sum_{j in Neg(i)} e^{s_ij})]; 0 for an anchor without negatives."""
        used = self.scores.masked_fill(~(self.positive | self.negative), -torch.inf)
        return (used.logsumexp(1) - self.scores[self.positive]).mean()

    def accuracy(self, *, in_image: bool) -> Tensor:
        """Share of anchors nearer to their own target than to every negative of the same picture (else: of another).

        Anchors without such a negative do not count. A 0-d tensor, nan where no anchor counts.
        """
        rivals = self.negative & (self.same_picture if in_image else ~self.same_picture)
        best = self.scores.masked_fill(~rivals, -torch.inf).amax(1)
        right = (self.scores[self.positive] > best)[rivals.any(1)]
        return right.float().mean()

    def chance(self, *, in_image: bool) -> Tensor:
        """The :meth:`accuracy` of random guesses over the same anchors."""
        rivals = self.negative & (self.same_picture if in_image else ~self.same_picture)
        counts = rivals.sum(1)
        return (1.0 / (1 + counts[counts > 0])).mean()


def contrast(
    student: Tensor,
    own: Tensor,
    candidates: Candidates,
    *,
    tau: float = 0.07,
    negatives: str = "in-batch",
    exclude: bool = True,
) -> Contrast:
    """Logits s_ij = u_i . e_j / tau, and which pairs are positive and negative.

    student: N x D embeddings u, L2-normalised here; own: N indices into ``candidates``, the target of each anchor.
    Neg(i) is every other candidate (with ``negatives`` "in-image", of the same picture). ``exclude`` leaves out
    candidates of the same kind whose level differs by at most 1: they would be false negatives. ConfigError for another
    value of ``negatives``.
    """
    if negatives not in NEGATIVES:
        raise ConfigError(f"negatives are one of {', '.join(NEGATIVES)}, not {negatives!r}")
    with torch.autocast(student.device.type, enabled=False):
        u = F.normalize(student.float(), dim=1)
        scores = u @ F.normalize(candidates.embeddings.float(), dim=1).T / tau
    index = torch.arange(len(candidates.kinds), device=own.device)
    positive = index == own[:, None]
    negative = ~positive & (candidates.levels >= 0)
    if exclude:
        near = (candidates.levels - candidates.levels[own][:, None]).abs() <= 1
        negative &= ~(near & (candidates.kinds == candidates.kinds[own][:, None]))
    same_picture = candidates.pictures == candidates.pictures[own][:, None]
    if negatives == "in-image":
        negative &= same_picture
    return Contrast(scores, positive, negative, same_picture)


def contrastive_distillation(
    student: Tensor,
    teacher: Tensor,
    kinds: Tensor,
    levels: Tensor,
    *,
    tau: float = 0.07,
    negatives: str = "in-batch",
    exclude: bool = True,
    queue: Candidates | None = None,
) -> Tensor:
    """L_CKD = -(1/N) sum_i log [ e^{u_i.e_i/tau} / (e^{u_i.e_i/tau} + sum_{j in Neg(i)} e^{u_i.e_j/tau}) ].

    The loss as one call. Training takes it apart, since the queue and the accuracies share its scores: ``contrast`` and
    ``Contrast.loss``; a test holds both to the same values.

    student u and teacher e: B x K x D block embeddings, L2-normalised here; kinds (-1 pristine) and levels (0
    pristine): B x K. ``negatives`` is "in-image" (blocks of the same picture), "in-batch" (all blocks of the batch) or
    "queue" (those and the candidates in ``queue``). ``exclude`` leaves out blocks of the same kind whose level differs
    by at most 1. The teacher gets no gradient. ConfigError for "queue" without a queue.
    """
    if negatives == "queue" and queue is None:
        raise ConfigError('negatives "queue" need a queue')
    candidates = batch_candidates(teacher, kinds, levels)
    own = torch.arange(len(candidates.kinds), device=kinds.device)
    if negatives == "queue" and queue is not None:
        candidates = candidates + queue
    return contrast(student.flatten(0, 1), own, candidates, tau=tau, negatives=negatives, exclude=exclude).loss()


def batch_candidates(teacher: Tensor, kinds: Tensor, levels: Tensor) -> Candidates:
    """The blocks of a batch (B x K x D, B x K, B x K) as candidates; pictures are numbered 0 to B - 1."""
    pictures = torch.arange(len(teacher), device=kinds.device)[:, None].expand_as(kinds)
    return Candidates(teacher.detach().flatten(0, 1), kinds.flatten(), levels.flatten(), pictures.flatten())


def affinity_distillation(student: Tensor, teacher: Tensor, *, mode: str = "mse", tau: float = 0.1) -> Tensor:
    """L_AKD: the student's blocks should be as similar to each other as the teacher's are.

    student a~: B x K x d, teacher e: B x K x D. A_kk' is the cosine of blocks k and k' of one picture: A^S of the
    student, A^T of the teacher.

    - ``mse``: mean over pictures and k != k' of (A^S_kk' - A^T_kk')^2;
    - ``kl``: mean over rows k of KL(softmax(A^T_k. / tau) || softmax(A^S_k. / tau)), without the diagonal;
    - ``cross``: as ``mse``, over the blocks of all pictures of the batch together.

    The teacher gets no gradient. ConfigError for another ``mode``.
    """
    if mode not in AFFINITIES:
        raise ConfigError(f"akd is one of {', '.join(AFFINITIES)}, not {mode!r}")
    if mode == "cross":
        student, teacher = student.flatten(0, 1)[None], teacher.flatten(0, 1)[None]
    ours, theirs = affinities(student), affinities(teacher.detach())
    if mode == "kl":
        target = (theirs / tau).softmax(-1)
        return F.kl_div((ours / tau).log_softmax(-1), target, reduction="none").sum(-1).mean()
    return F.mse_loss(ours, theirs)


def affinities(blocks: Tensor) -> Tensor:
    """Cosines between the blocks of each picture, without the diagonal: B x K x d -> B x K x (K - 1)."""
    with torch.autocast(blocks.device.type, enabled=False):
        unit = F.normalize(blocks.float(), dim=-1)
        cosines = unit @ unit.transpose(1, 2)
    count = cosines.shape[1]
    others = ~torch.eye(count, dtype=torch.bool, device=blocks.device)
    return cosines[:, others].view(len(cosines), count, count - 1)


def imitation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_MSE = mean_i |u_i - e_i|^2 of L2-normalised embeddings, B x K x D: 0 to 4. Distillation without negatives."""
    with torch.autocast(student.device.type, enabled=False):
        u, e = F.normalize(student.float(), dim=-1), F.normalize(teacher.detach().float(), dim=-1)
        return (u - e).square().sum(-1).mean()


def opinion_loss(prediction: Tensor, opinion: Tensor) -> Tensor:
    """L_P and L_B = mean of SmoothL1(yhat, mean_m y_m) over what has an opinion (docs/method.md 8, R-E).

    prediction: scores of pictures (B) or blocks (B x K); opinion: the mean opinion of frozen quality models on the same
    pictures or blocks, nan where it does not count. Both in standardised label units. 0 where nothing counts; opinions
    get no gradient.
    """
    counts = ~opinion.isnan()
    target = opinion.detach().float().where(counts, 0.0)
    gaps = F.smooth_l1_loss(prediction.float(), target, reduction="none") * counts
    return gaps.sum() / counts.sum().clamp_min(1)


def harmless_loss(changed: Tensor, clean: Tensor, dead_zone: float) -> Tensor:
    """L_H = mean of SmoothL1(max(0, |yhat(h(x)) - yhat(x)| - dead_zone), 0) (docs/method.md 15).

    changed, clean: the scores of B pictures after a harmless change h and before it, in standardised label units, as is
    ``dead_zone``. The score of the picture as it was is the target and gets no gradient.
    """
    excess = ((changed.float() - clean.detach().float()).abs() - dead_zone).clamp_min(0)
    return F.smooth_l1_loss(excess, torch.zeros_like(excess))


def ranking_loss(scores: Tensor, places: Tensor, margin: float, clean_margin: float = 0.0) -> Tensor:
    """L_R = mean over pairs a < b of one row of max(0, margin (place_b - place_a) + extra_a - (yhat_a - yhat_b)).

    A row holds one crop in R versions, each degraded further than the one before (docs/method.md 13). A version that is
    known to be worse must score lower, by ``margin`` for each place between the two, and by ``clean_margin`` more where
    a is the clean crop: extra_a. scores: B x R in standardised label units; places: B x R ints, rising along a row, 0
    for the clean crop. Pairs with equal places do not count.
    """
    gaps = places[:, None, :] - places[:, :, None]
    wanted = margin * gaps + clean_margin * (places == 0)[:, :, None]
    lead = (scores[:, :, None] - scores[:, None, :]).float()
    short = (wanted - lead).clamp_min(0) * (gaps > 0)
    return short.sum() / (gaps > 0).sum().clamp_min(1)


def reference_ranking_loss(quality: Tensor, distances: Tensor, margin: float, clear: float) -> Tensor:
    """L_F = mean over pairs a, b of blocks of one picture with d_b >= d_a + clear of max(0, margin - (q_a - q_b)).

    The block that is farther from its pristine twin must have the lower quality (docs/method.md 9.6). quality: B x K in
    standardised label units; distances: B x K, a full-reference measure, nan for blocks that do not count. 0 where no
    pair does.
    """
    counts = distances[:, None, :] - distances[:, :, None] >= clear
    lead = (quality[:, :, None] - quality[:, None, :]).float()
    return ((margin - lead).clamp_min(0) * counts).sum() / counts.sum().clamp_min(1)


def block_ranking_loss(quality: Tensor, places: Tensor, changed: Tensor, margin: float) -> Tensor:
    """:func:`ranking_loss` for each block, so that the quality map falls where the picture got worse and only there.

    The mean over pairs a < b and blocks of max(0, margin (place_b - place_a) - (q_a - q_b)) where the block changed,
    and of |q_a - q_b| where it did not. quality: B x R x K in standardised label units; places: B x R as in
    :func:`ranking_loss`; changed: B x R x R x K bool, whether the pixels of a block differ between two versions.
    """
    gaps = (places[:, None, :] - places[:, :, None])[..., None]
    lead = (quality[:, :, None] - quality[:, None, :]).float()
    terms = torch.where(changed, (margin * gaps - lead).clamp_min(0), lead.abs()) * (gaps > 0)
    return terms.sum() / ((gaps > 0).sum() * quality.shape[-1]).clamp_min(1)
