"""The random state of a process: what has to be put back for a resumed run to draw what it would have drawn."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from sopose.core.utils.errors import UserError


class RandomState:
    """Python's, numpy's and torch's generators, as tensors and plain values that a checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        """The state of all generators of this process, those of its GPUs included."""
        version, words, gauss = random.getstate()
        _, keys, position, has_gauss, cached = np.random.get_state()
        return {
            "python": [version, list(words), gauss],
            "numpy": [torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a state back. GPUs that weren't there when it was taken keep theirs. `UserError` for damaged states."""
        try:
            version, words, gauss = state["python"]
            random.setstate((version, tuple(words), gauss))
            keys, position, has_gauss, cached = state["numpy"]
            np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
            torch.set_rng_state(state["torch"])
            for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(cuda_state, device)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"the random state is damaged ({type(error).__name__}: {error})") from error
