"""The networks (needs the ``train`` extra)."""

from moslens.model.shdiqa import SHDIQA, ModelConfig, build

__all__ = ["SHDIQA", "ModelConfig", "build"]
