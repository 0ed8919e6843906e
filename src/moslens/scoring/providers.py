"""What runs the network: onnxruntime's execution providers, by short names."""

import logging
from collections.abc import Sequence
from typing import Any

from moslens.errors import ConfigError

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
SHORT = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
PACKAGES = {"cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
OPTIONS: dict[str, dict[str, str]] = {
    # By default these two may compute in TF32 and in bfloat16, which moves scores by more than rounding does.
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "OpenVINOExecutionProvider": {"precision": "ACCURACY"},
}


def short_name(provider: str) -> str:
    """``cuda`` for ``CUDAExecutionProvider``; another of onnxruntime's names stays as it is."""
    return next((short for short, name in SHORT.items() if name == provider), provider)


def session_providers(wanted: Sequence[str] | None, ort: Any) -> list[tuple[str, dict[str, str]]]:
    """Onnxruntime's names of the wanted providers that it has, with options; the CPU is the last of them.

    ``wanted`` has short names or onnxruntime's, None is the CPU alone. One that this onnxruntime is not built with is
    left out with a warning. Raises ConfigError for a name that no onnxruntime has.
    """
    known = ort.get_all_providers()
    available = ort.get_available_providers()
    chosen: list[str] = []
    for given in (wanted,) if isinstance(wanted, str) else wanted or ():
        name = SHORT.get(given, given)
        if name not in known and name not in SHORT.values():
            raise ConfigError(
                f"no provider {given!r}: this onnxruntime has {', '.join(map(short_name, available))}; the names are"
                f" {', '.join(SHORT)}, and those of onnxruntime"
            )
        if name not in available:
            package = PACKAGES.get(short_name(name))
            hint = f": it comes with {package}, instead of onnxruntime" if package else ""
            logger.warning("this onnxruntime has no %s%s; the next provider takes its place", short_name(name), hint)
        elif name not in chosen:
            chosen.append(name)
    if CPU not in chosen:
        chosen.append(CPU)
    return [(name, OPTIONS.get(name, {})) for name in chosen]


def warn_of_fallback(asked: Sequence[tuple[str, dict[str, str]]], in_use: Sequence[str]) -> None:
    """Warn of providers that onnxruntime has and could not start, such as CUDA without its libraries or a GPU."""
    for name, _ in asked:
        if name not in in_use:
            logger.warning("%s could not be started; in use: %s", short_name(name), ", ".join(map(short_name, in_use)))
