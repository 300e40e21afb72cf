"""Small changes of face crops while training, the same for every frame of a window."""

import torch
from torch import Tensor


def augment_frames(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the windows, vary light and contrast by up to a tenth, shift all by up to 1/28 of the size.

    uint8 (B, T, S, S, 3), same out. What a shift pushes out at one edge comes back at the other: there is background.
    """
    most = frames.shape[2] // 28
    down, right = (int(n) for n in torch.randint(-most, most + 1, (2,), generator=generator))
    frames = frames.roll((down, right), dims=(2, 3))
    mirrored, gain, shift = torch.rand(3, len(frames), 1, 1, 1, 1, generator=generator).to(frames.device)
    frames = torch.where(mirrored < 0.5, frames.flip(3), frames)
    varied: Tensor = frames * (0.9 + 0.2 * gain) + 25.0 * (shift - 0.5)
    return varied.clamp(0, 255).to(torch.uint8)
