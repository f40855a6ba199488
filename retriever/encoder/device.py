"""Where models run."""

from __future__ import annotations

import torch

from retriever.errors import ModelError


def check_device(device: str | None) -> None:
    """See that PyTorch can compute on a device; nothing is to be checked where none is named.

    Raises:
        ModelError: It cannot.
    """
    if device is None:
        return
    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # an assertion, a RuntimeError or another, as PyTorch was built
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
        raise ModelError(
            f"PyTorch cannot compute on the device {device!r} ({reason}): choose cpu, or leave --device out."
        ) from error
