"""One channel from many, without losing a speaker. Pure: blocks of samples in, blocks of samples out.

Adding channels up loses whoever is in two of them with opposite sign, as after a wrongly wired cable or a balanced input. So each
channel is compared with the sum of the louder ones, and turned round where it is their opposite. Dividing by the number of channels
would make the only speaker of 32 too quiet, so only the channels that have had sound are counted.
"""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

WEIGHTS = {"FC": 1.0, "FL": 0.7, "FR": 0.7, "LFE": 0.35}
"""Weights of the channels of a surround layout by FFmpeg's names: dialogue is in the centre. No channel is left out."""
OTHER_WEIGHT = 0.5
AUDIBLE = 1e-4
"""Energy of a channel, relative to the loudest of its block, above which it counts as heard: -40 dB."""
SILENT_POWER = 1e-9
"""Mean square below which a block has no sound: -90 dB of full scale."""
TURN_BELOW, TURN_BACK_ABOVE = -0.5, 0.0
"""Correlations at which a channel is turned round and back. Between them it stays as it is."""
FADE_SAMPLES = 256
"""A turn is spread over these, so that it does not click."""
UNLIKE_BELOW, SAME_ABOVE = 0.5, 0.999
"""Correlations of channels that are different recordings, and of channels that are the same one."""
UNLIKE_SHARE = 0.2
"""Channels differ where this share of the blocks with sound says so."""


class Mixer:
    """Mixes blocks of one recording. `differ` and `same` say afterwards what the channels had to do with each other."""

    def __init__(self, names: list[str]) -> None:
        """`names` has FFmpeg's name of each channel (`FL`, `LFE`); empty strings where nobody knows."""
        self.channels = len(names)
        surround = len(names) > 2 and all(names)
        weights = [WEIGHTS.get(name, OTHER_WEIGHT) if surround else 1.0 for name in names]
        self._weights: Samples = np.array(weights, np.float32)
        self._signs: Samples = np.ones(len(names), np.float32)
        self._heard = np.zeros(len(names), bool)
        self._blocks = self._unlike = self._alike = 0

    def mix(self, block: Samples) -> Samples:
        """Return the mix of a block of shape (channels, samples)."""
        if len(block) == 1:
            only: Samples = block[0]
            return only
        energy = np.einsum("ij,ij->i", block, block) / np.float32(max(block.shape[1], 1))
        before = self._gains()
        heard = energy > max(float(energy.max()) * AUDIBLE, SILENT_POWER)
        if heard.any():
            self._heard |= heard
            self._compare(block, energy, np.flatnonzero(heard))
        now = self._gains()
        mixed: Samples = now @ block
        if np.any(before != now):
            fade = np.linspace(0, 1, min(FADE_SAMPLES, block.shape[1]), dtype=np.float32)
            old: Samples = before @ block[:, : fade.size]
            mixed[: fade.size] = old * (1 - fade) + mixed[: fade.size] * fade
        return mixed

    def _gains(self) -> Samples:
        """Return what each channel is multiplied with, so that the channels with sound have the weight 1 together."""
        together = float(self._weights[self._heard].sum()) or float(self._weights.sum())
        return self._weights * self._signs / np.float32(together)

    def _compare(self, block: Samples, energy: Samples, heard: NDArray[np.int64]) -> None:
        """Turn the channels round that are the opposite of the louder ones, and count what kind of block this is."""
        loudest_first = heard[np.argsort(-energy[heard], kind="stable")]
        first, *others = loudest_first.tolist()
        total = self._signs[first] * block[first]
        lowest, highest = 1.0, 1.0
        for number, channel in enumerate(others):
            power = float(energy[first]) if number == 0 else float(total @ total) / block.shape[1]
            both = float(total @ block[channel]) / block.shape[1]
            alike = both / max(float(np.sqrt(power * energy[channel])), 1e-12)
            lowest, highest = min(lowest, abs(alike)), min(highest, alike)
            if alike < TURN_BELOW:
                self._signs[channel] = -1
            elif alike > TURN_BACK_ABOVE:
                self._signs[channel] = 1
            if number + 1 < len(others):
                total = total + self._signs[channel] * block[channel]
        self._blocks += 1
        self._unlike += len(others) > 0 and (lowest < UNLIKE_BELOW or highest < TURN_BELOW)
        even = float(energy[heard].min()) > 0.98 * float(energy[heard].max())
        self._alike += len(loudest_first) == len(block) and highest > SAME_ABOVE and even

    @property
    def differ(self) -> bool:
        """Whether the channels have different things to say: two speakers, or opposite signs."""
        return self._unlike > UNLIKE_SHARE * self._blocks

    @property
    def same(self) -> bool:
        """Whether all channels are one and the same recording."""
        return self._blocks > 0 and self._alike == self._blocks
