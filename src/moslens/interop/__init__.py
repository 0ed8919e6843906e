"""moslens in torch programs: a torchmetrics metric, a differentiable module, and the interface of pyiqa.

Needs the ``train`` extra; without it the import raises MissingExtra.
"""

from moslens.interop.metric import IQAMetric, QualityNetwork, QualityScore, create_metric

__all__ = ["IQAMetric", "QualityNetwork", "QualityScore", "create_metric"]
