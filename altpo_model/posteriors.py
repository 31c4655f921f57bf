"""What a model says of a whole song, computed in chunks, so that memory does not grow with the length of the song.

Chunks overlap, and their ends, where the networks have not heard what lies around, are dropped. What the networks take
from a whole clip (the decibel floor of the features, instance norm, the memory of the BiLSTM) they take from the chunk.
"""

import torch
from torch import Tensor

from altpo_model.errors import UserError
from altpo_model.model import Batch, JointModel, Output

CHUNK_SECONDS = 60.0
CONTEXT_SECONDS = 5.0  # of it on each side, dropped


def song_log_probs(model: JointModel, waveforms: Tensor, **chunks: float) -> Tensor:
    """The lyrics network's natural log probabilities (T', C) of a song (2, N); see `song_output`."""
    return song_output(model, waveforms, **chunks).log_probs[0]


@torch.inference_mode()
def song_output(
    model: JointModel,
    waveforms: Tensor,
    is_song: bool = True,
    chunk_seconds: float = CHUNK_SECONDS,
    context_seconds: float = CONTEXT_SECONDS,
) -> Output:
    """The model's output for one song, as a batch of one clip, on the CPU.

    waveforms: (2, N) separated vocals and mixture at the model's sample rate; the chunks go to the model's device.
    is_song: false for speech, which stands in both channels.
    chunk_seconds, context_seconds: length of a chunk, and how much of it is dropped where another chunk goes on.
    Raises UserError for a system that cannot be asked (the oracle needs notes) or audio without samples.
    """
    if model.system == "oracle":
        raise UserError("the oracle system needs the true notes of a song; take multitask or baseline")
    if waveforms.shape[1] == 0:
        raise UserError("the audio has no samples")
    device = next(model.parameters()).device
    hop = model.features.hop
    subsampling = model.lyrics.encoder.subsampling if model.lyrics is not None else 1
    num_frames = max(1, waveforms.shape[1] // hop)
    rate = model.features.mel.sample_rate
    context = round(context_seconds * rate / hop / subsampling) * subsampling  # frames
    step = round(chunk_seconds * rate / hop / subsampling) * subsampling - 2 * context
    if step <= 0:
        raise ValueError(f"chunks of {chunk_seconds} s are all context ({context_seconds} s on each side)")
    log_probs, pitch, onset = [], [], []
    for start in range(0, num_frames, step):
        is_last = start + step >= num_frames
        first = max(0, start - context)
        behind = waveforms.shape[1] if start + step + context >= num_frames else (start + step + context) * hop
        chunk = waveforms[:, first * hop : behind].to(device)
        output = model(
            Batch(chunk[None], torch.tensor([chunk.shape[1]], device=device), torch.tensor([is_song], device=device))
        )
        kept = slice(start - first, None if is_last else start - first + step)
        if output.log_probs is not None:
            tokens = slice(kept.start // subsampling, None if is_last else kept.stop // subsampling)
            log_probs.append(output.log_probs[:, tokens].cpu())
        if output.pitch_logits is not None:
            pitch.append(output.pitch_logits[..., kept].cpu())
            onset.append(output.onset_logits[:, kept].cpu())
    joined = Output(torch.tensor([num_frames]))
    if log_probs:
        joined.log_probs = torch.cat(log_probs, dim=1)
        joined.log_probs_lengths = torch.tensor([joined.log_probs.shape[1]])
    if pitch:
        joined.pitch_logits, joined.onset_logits = torch.cat(pitch, dim=2), torch.cat(onset, dim=1)
    return joined
