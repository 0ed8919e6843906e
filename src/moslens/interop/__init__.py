"""moslens inside torch programs: a torchmetrics metric, a differentiable module, a call in the style of pyiqa.

Needs the ``train`` extra; importing it without raises MissingExtra.
"""

from moslens.interop.metric import IQAMetric, QualityNetwork, QualityScore, create_metric

__all__ = ["IQAMetric", "QualityNetwork", "QualityScore", "create_metric"]
