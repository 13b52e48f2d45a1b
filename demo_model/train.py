"""Train the demo model: a real, tiny whisper that knows spoken digits in English and German.

Run as ``python train.py PHRASES.npz DONOR.bin OUT_DIR``; README.md tells the whole recipe and its reasons.
"""

import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ggml
import numpy as np
import torch
import torch.nn.functional as F
from speech import SAMPLE_RATE, WORDS
from torch import nn

STATE, HEADS, AUDIO_LAYERS, TEXT_LAYERS = 128, 2, 4, 3
AUDIO_CTX, TEXT_CTX, VOCAB, MELS = 1500, 448, 51865, 80
FRAME = 320  # samples per encoder position, 20 ms
LANGS = {"en": 50259, "de": 50261}
EOT, SOT, TRANSLATE, TRANSCRIBE, PREV, NO_SPEECH, BEGIN = 50257, 50258, 50358, 50359, 50361, 50362, 50364
MAX_INITIAL_TS = 50  # whisper.cpp allows no first timestamp above 1.0 s
GUIDED_LAYER, GUIDED_HEAD = 1, 0  # the one head that is told where to look
MAX_PROMPT = 63  # what an n_max_text_ctx of 64 leaves
TIME_GRID = 5
"""Times are told in steps of 0.1 s: among fifteen hundred fine ones the model would rightly be so unsure that
whisper.cpp, which counts them in its confidence, would decode again at random temperatures."""
SUPPRESSED = -1000.0  # what the reserved dimension says of tokens that this model never speaks


def sinusoids(length: int, channels: int) -> torch.Tensor:
    step = math.log(10000) / (channels // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(channels // 2))[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def on_grid(position: int) -> int:
    return position // TIME_GRID * TIME_GRID


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(STATE, STATE), nn.Linear(STATE, STATE, bias=False)
        self.value, self.out = nn.Linear(STATE, STATE), nn.Linear(STATE, STATE)

    weights: torch.Tensor | None = None  # of the last call that asked to `keep` them

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor | None = None, causal: bool = False, keep: bool = False
    ) -> torch.Tensor:
        memory = x if memory is None else memory
        q, k, v = (
            f(y).view(len(y), y.shape[1], HEADS, -1).transpose(1, 2)
            for f, y in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        if keep:
            self.weights = (q.float() @ k.float().transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
            mixed = self.weights.to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, cross: bool) -> None:
        super().__init__()
        self.attn, self.attn_ln = Attention(), nn.LayerNorm(STATE)
        if cross:
            self.cross_attn, self.cross_attn_ln = Attention(), nn.LayerNorm(STATE)
        self.mlp = nn.Sequential(nn.Linear(STATE, 4 * STATE), nn.GELU(), nn.Linear(4 * STATE, STATE))
        self.mlp_ln = nn.LayerNorm(STATE)

    def forward(self, x: torch.Tensor, audio: torch.Tensor | None = None, keep: bool = False) -> torch.Tensor:
        x = x + self.attn(self.attn_ln(x), causal=audio is not None)
        if audio is not None:
            x = x + self.cross_attn(self.cross_attn_ln(x), audio, keep=keep)
        return x + self.mlp(self.mlp_ln(x))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, STATE, 3, padding=1)
        self.conv2 = nn.Conv1d(STATE, STATE, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(AUDIO_CTX, STATE))
        self.blocks = nn.ModuleList(Block(False) for _ in range(AUDIO_LAYERS))
        self.ln_post = nn.LayerNorm(STATE)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positional_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


class Decoder(nn.Module):
    """Only the tokens in use have embedding rows here; dimension 0 is kept for SUPPRESSED at export."""

    def __init__(self, used: int) -> None:
        super().__init__()
        rows = torch.randn(used, STATE) * 0.05
        rows[-AUDIO_CTX - 1 :] = sinusoids(AUDIO_CTX + 1, STATE) * 0.15  # a time is then a dot product away
        self.embedding = nn.Parameter(rows)
        self.positional_embedding = nn.Parameter(torch.randn(TEXT_CTX, STATE) * 0.02)
        self.blocks = nn.ModuleList(Block(True) for _ in range(TEXT_LAYERS))
        self.ln = nn.LayerNorm(STATE)
        mask = torch.ones(STATE)
        mask[0] = 0
        self.register_buffer("mask", mask)

    def forward(self, ids: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        rows = self.embedding * self.mask
        x = rows[ids] + self.positional_embedding[: ids.shape[1]]
        for number, block in enumerate(self.blocks):
            x = block(x, audio, keep=number == GUIDED_LAYER)
        return (self.ln(x) * self.mask).float() @ rows.T


class Net(nn.Module):
    def __init__(self, used: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder(used)
        self.ctc = nn.Linear(STATE, 21)  # helps the encoder to converge; not exported


@dataclass
class Sample:
    audio: np.ndarray  # float32
    ids: list[int]  # decoder input
    targets: list[int]  # -100 where nothing is to be learnt
    ctc: list[int]
    guide: list[tuple[int, int]]  # per target: the encoder positions that it is heard at; (0, 0) for none


class Windows:
    """Draws random training windows: phrases laid out with pauses, levels, noise and a prompt."""

    def __init__(self, phrases: Path, tokens: list[bytes], seed: int) -> None:
        data = np.load(phrases)
        self.by_lang: dict[str, np.ndarray] = {}
        self.audio, self.bounds = data["audio"], data["bounds"]
        self.digits = [[int(d) for d in row if d >= 0] for row in data["digits"]]
        self.langs = data["lang"]
        self.words = {lang: [ggml.tokenize(" " + w, tokens) for w in words] for lang, words in WORDS.items()}
        self.rng, self.noise = random.Random(seed), np.random.default_rng(seed)

    def limit(self, max_digits: int) -> None:
        """Use only phrases of up to so many digits: short ones first, as in any schoolbook."""
        short = np.array([len(d) <= max_digits for d in self.digits])
        self.by_lang = {lang: np.flatnonzero((self.langs == lang) & short) for lang in LANGS}

    def text(self, lang: str, digits: list[int]) -> list[int]:
        return [t for d in digits for t in self.words[lang][d]]

    def prompt(self, lang: str) -> list[int]:
        """Earlier text as whisper.cpp carries it: plain (initial_prompt), or with the timestamps of its own window, up to
        63 tokens and usually just as many, often ending with the start time of a phrase that was cut."""
        rng, out, at = self.rng, [], 0
        if rng.random() < 0.4:
            return out
        plain = rng.random() < 0.3
        for _ in range(rng.randint(1, 14)):
            text = self.text(lang, [rng.randrange(10) for _ in range(rng.randint(1, 6))])
            at = on_grid(at + rng.randint(15, 120)) % AUDIO_CTX
            end = min(AUDIO_CTX, on_grid(at + rng.randint(25, 130)))
            out += text if plain else [BEGIN + at, *text, BEGIN + end]
            at = end
        if not plain and rng.random() < 0.6:
            out.append(BEGIN + min(AUDIO_CTX, on_grid(at + rng.randint(15, 100))))
        return [PREV, *out[-MAX_PROMPT:]]

    def draw(self, seconds: float, max_phrases: int) -> Sample:
        """One window that begins at 0 s."""
        rng, length = self.rng, int(seconds * SAMPLE_RATE)
        audio, lang = np.zeros(length, np.float32), rng.choice(["en", "de"])
        task = TRANSLATE if rng.random() < (0.35 if lang == "de" else 0.1) else TRANSCRIBE
        spoken = "en" if task == TRANSLATE else lang
        level = rng.uniform(0.15, 1.2)
        body, ctc, guide = [], [], []
        count = 0 if rng.random() < 0.06 else rng.randint(1, max_phrases)
        at = int(rng.choice([rng.uniform(0, 0.3), rng.uniform(0, 1.0), rng.uniform(0, 2.5)]) * SAMPLE_RATE)
        for _ in range(count):
            index = rng.choice(self.by_lang[lang])
            clip = self.audio[self.bounds[index] : self.bounds[index + 1]].astype(np.float32) / 32768
            start, end = round(at / FRAME), round((at + len(clip)) / FRAME)
            said, until = on_grid(start), min(on_grid(end + TIME_GRID - 1), AUDIO_CTX)
            said = said if body else min(said, MAX_INITIAL_TS)
            if at + FRAME >= length:
                break
            if (
                at + len(clip) > length
            ):  # cut by the window's end: its start only, so that the next window begins there
                audio[at:] += clip[: length - at] * level
                if body:
                    body.append(BEGIN + said)
                    guide.append((start - 5, start + 10))
                break
            audio[at : at + len(clip)] += clip * level * rng.uniform(0.7, 1.2)
            digits = self.digits[index]
            body += [BEGIN + said, *self.text(spoken, digits), BEGIN + until]
            guide.append((start - 5, start + 10))
            step = (end - start) / len(digits)
            for n, digit in enumerate(digits):
                where = (int(start + n * step) - 8, int(start + (n + 1) * step) + 8)
                guide += [where] * len(self.words[spoken][digit])
            guide.append((end - 10, end + 5))
            ctc += [1 + d + 10 * (lang == "de") for d in digits]
            at += len(clip) + int(rng.choice([rng.uniform(0.45, 1.0), rng.uniform(0.45, 2.5)]) * SAMPLE_RATE)
        if not body:
            audio[:] = 0
        if rng.random() < 0.75:
            noisy = (
                length if rng.random() < 0.6 else min(length, at)
            )  # the padding of a short file is pure zero
            audio[:noisy] += self.noise.standard_normal(noisy).astype(np.float32) * 10 ** rng.uniform(
                -4.5, -2.3
            )
        prompt = self.prompt(spoken)
        head, first = [*prompt, SOT, LANGS[lang], task], [-100] * len(prompt)
        if not body:
            return Sample(
                audio, [*head, BEGIN], [*first, NO_SPEECH, -100, BEGIN, EOT], [], [(0, 0)] * (len(head) + 1)
            )
        guide = [(0, 0)] * (len(prompt) + 2) + guide + [(0, 0)]
        return Sample(audio, [*head, *body], [*first, LANGS[lang], -100, *body, EOT], ctc, guide)


def log_mel(audio: torch.Tensor, filters: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Whisper's: 400-point Hann, hop 160, log10, at most 8 below the maximum, (x + 4) / 4."""
    frames = audio.shape[1] // 160
    power = torch.stft(audio, 400, 160, window=window, return_complex=True)[..., :frames].abs() ** 2
    mel = (filters @ power).clamp_min(1e-10).log10()
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


@dataclass
class Phase:
    seconds: float
    max_phrases: int
    max_digits: int
    batch: int
    steps: int


RATE = 1.5e-3
PHASES = [
    Phase(4.0, 2, 2, 32, 400),
    Phase(5.0, 3, 4, 24, 400),
    Phase(10.0, 6, 6, 16, 500),
    Phase(20.0, 10, 6, 10, 500),
    Phase(30.0, 14, 6, 8, 1600),
]


class Trainer:
    def __init__(self, phrases: Path, donor: Path, out: Path) -> None:
        self.donor, self.out = ggml.read_donor(donor), out
        self.windows = Windows(phrases, self.donor.tokens, seed=1)
        words = {t for lang in WORDS for w in self.windows.words[lang] for t in w}
        special = [EOT, SOT, *LANGS.values(), TRANSLATE, TRANSCRIBE, PREV, NO_SPEECH]
        self.used = [*sorted(words), *special, *range(BEGIN, BEGIN + AUDIO_CTX + 1)]
        self.row = {token: i for i, token in enumerate(self.used)}
        self.net = Net(len(self.used))
        self.filters, self.hann = torch.from_numpy(self.donor.mel_filters), torch.hann_window(400)

    def loss(self, phase: Phase) -> tuple[torch.Tensor, str]:
        samples = [self.windows.draw(phase.seconds, phase.max_phrases) for _ in range(phase.batch)]
        longest = max(len(s.ids) for s in samples)
        ids = torch.full((phase.batch, longest), self.row[EOT])
        targets = torch.full((phase.batch, longest), -100)
        guide = torch.zeros((phase.batch, longest, 2), dtype=torch.long)
        for i, s in enumerate(samples):
            ids[i, : len(s.ids)] = torch.tensor([self.row[t] for t in s.ids])
            targets[i, : len(s.targets)] = torch.tensor([self.row.get(t, -100) for t in s.targets])
            guide[i, : len(s.guide)] = torch.tensor(s.guide)
        mel = log_mel(torch.from_numpy(np.stack([s.audio for s in samples])), self.filters, self.hann)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.net.encoder(mel)
            logits = self.net.decoder(ids, features)
            ctc_logits = self.net.ctc(features)
        ce = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)
        aligned = self.ctc_loss(ctc_logits.float(), [s.ctc for s in samples])
        looking = self.guide_loss(guide)
        best, times = logits.argmax(-1), len(self.used) - AUDIO_CTX - 1
        is_text, is_time = (targets >= 0) & (targets < times), targets >= times
        word = (best == targets)[is_text].float().mean()
        near = ((best - targets).abs() <= 5)[is_time].float().mean()
        line = f"ce {ce:.3f} ctc {aligned:.3f} guide {looking:.3f} text {word:.3f} times {near:.3f}"
        return ce + 0.5 * aligned + 0.3 * looking, line

    def ctc_loss(self, logits: torch.Tensor, digits: list[list[int]]) -> torch.Tensor:
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        lengths = torch.tensor([len(d) for d in digits])
        flat = torch.tensor([d for one in digits for d in one], dtype=torch.long)
        frames = torch.full((len(digits),), len(log_probs))
        return F.ctc_loss(log_probs, flat, frames, lengths, zero_infinity=True)

    def guide_loss(self, guide: torch.Tensor) -> torch.Tensor:
        """Minus log of the attention that falls where the token is heard: alignment is learnt in minutes, not hours."""
        weights = self.net.decoder.blocks[GUIDED_LAYER].cross_attn.weights[:, GUIDED_HEAD]
        places = torch.arange(weights.shape[-1])
        inside = (places >= guide[..., :1]) & (places < guide[..., 1:])
        wanted = guide[..., 1] > 0
        return -(weights * inside).sum(-1)[wanted].clamp_min(1e-6).log().mean()

    def phase(self, phase: Phase, first: int, total: int) -> None:
        """One phase of the curriculum; the learning rate falls over the whole course, not in each phase."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
        self.windows.limit(phase.max_digits)
        begun = time.monotonic()
        for step in range(phase.steps):
            done = (first + step) / total
            factor = min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for group in optimizer.param_groups:
                group["lr"] = RATE * factor
            loss, line = self.loss(phase)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()
            if step % 25 == 0:
                print(
                    f"{phase.seconds:.0f}s {step}/{phase.steps} {line} {time.monotonic() - begun:.0f}s",
                    flush=True,
                )
            if step % 100 == 99:
                torch.save(self.net.state_dict(), self.out / "checkpoint.pt")
        self.export(self.out / f"ggml-demo-{phase.seconds:.0f}s-{phase.max_digits}.bin")

    def export(self, path: Path) -> None:
        decoder, mask = self.net.decoder, self.net.decoder.mask
        embedding = torch.zeros(VOCAB, STATE)
        embedding[:, 0] = SUPPRESSED
        embedding[self.used] = decoder.embedding * mask
        bias = decoder.ln.bias * mask
        bias[0] = 1.0
        tensors = {
            k: v for k, v in self.net.state_dict().items() if not k.startswith("ctc") and k != "decoder.mask"
        }
        tensors["decoder.token_embedding.weight"] = embedding
        tensors["decoder.ln.weight"], tensors["decoder.ln.bias"] = decoder.ln.weight * mask, bias
        del tensors["decoder.embedding"]
        arrays = {k: v.detach().float().numpy() for k, v in tensors.items()}
        for name in ("encoder.conv1.bias", "encoder.conv2.bias"):
            arrays[name] = arrays[name].reshape(-1, 1)
        hparams = [VOCAB, AUDIO_CTX, STATE, HEADS, AUDIO_LAYERS, TEXT_CTX, STATE, HEADS, TEXT_LAYERS, MELS]
        ggml.write(path, hparams, self.donor.head, arrays)


def main(phrases: str, donor: str, out: str, checkpoint: str = "", first_phase: str = "0") -> None:
    torch.manual_seed(1)
    Path(out).mkdir(parents=True, exist_ok=True)
    trainer = Trainer(Path(phrases), Path(donor), Path(out))
    if checkpoint:
        trainer.net.load_state_dict(torch.load(checkpoint))
    total, first = sum(p.steps for p in PHASES), 0
    for number, phase in enumerate(PHASES):
        if number >= int(first_phase):
            trainer.phase(phase, first, total)
        first += phase.steps


if __name__ == "__main__":
    main(*sys.argv[1:])
