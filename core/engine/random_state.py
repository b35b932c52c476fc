"""The random state of a process: how it is seeded, and what a resumed run puts back to draw on as before."""

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


def seed_everything(seed: int) -> int:
    """Seed Python, numpy and torch with `seed`, or with a drawn one where it is negative; the seed used."""
    if seed >= 2**32:
        raise UserError(f"SEED must be below 2**32, got {seed}; choose a smaller one")
    if seed < 0:
        seed = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed
