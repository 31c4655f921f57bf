"""Stage 3: find the constant pitch shift of each song, or that its notes are wrong (paper, section 4.1.1).

The network that was trained on RWC or MIR-ST500 estimates the pitch of every frame. For each shift, a song's error is
the share of wrong estimates among the frames in which its shifted annotation has a note. The best shift is applied to
the song's notes; a song whose best error is over filter.max_error is left out. (One's own UltraStar songs stay, with
their notes as they are, unless corpora.ultrastar.over_error is `drop`.)

Writes data_dir/filter/table.csv (see filter_table.py), <corpus>_left_out.tsv (songs and why), the selected songs
data_dir/songs/<corpus>_selected.jsonl.gz and, for generated songs, of which the truth is known, scores.json. With
filter.table, DALI has that table and is not scanned.
"""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet, MonoCut, load_manifest_lazy
from lhotse.supervision import AlignmentItem
from tqdm import tqdm

from altpo_model.checkpoint import load_model
from altpo_model.config import LYRICS_CORPORA, Config, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.model import Batch, JointModel
from altpo_model.notes import NO_PITCH, NUM_PITCHES, Note, frame_targets
from filter_table import Table, read_table, selected, write_table
from manifests import LeftOut, Report, write_left_out

CHUNK_SECONDS = 30.0


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    songs = {name: _songs(config, name) for name in LYRICS_CORPORA if getattr(config.corpora, name)}
    if not songs:
        print("no DALI and no UltraStar in the conf: nothing to filter")
        return
    table: Table = {}
    if config.filter.table:
        table = read_table(config.filter.table)
        count, limit = len(selected(table, config.filter.max_error)), config.filter.max_error
        print(f"{config.filter.table}: {len(table)} songs, {count} with an error of at most {limit:g}")
    to_scan = [
        song
        for name, part in songs.items()
        for song in part
        if song.id not in table and not (name == "dali" and config.filter.table)
    ]
    scanned = scan(config, to_scan)
    table |= scanned
    if scanned:
        write_table(Path(config.data_dir) / "filter" / "table.csv", scanned)
    for name, part in songs.items():
        kept = select(config, name, part, table)
        if not kept:
            raise UserError(f"the filter left no song of {name} over; filter.max_error is {config.filter.max_error}")
        with write_atomically(Path(config.data_dir) / "songs" / f"{name}_selected.jsonl.gz") as temporary:
            CutSet.from_cuts(kept).to_file(temporary)
    _score(config, table)


def scan(config: Config, songs: list[MonoCut]) -> Table:
    """The table of ``songs``; empty, with a word about it, where there is no network to scan them with."""
    path = Path(config.trained.data_dir if config.trained else config.data_dir) / "filter" / "model.pt"
    if not songs:
        return {}
    if not path.is_file():
        if config.corpora.dali and not config.filter.table:
            raise UserError(f"{path}: no such file; stage 3 trains it on RWC or MIR-ST500, or set filter.table")
        print(f"{path}: no pitch network (corpora.rwc, corpora.mir_st500), so {len(songs)} songs are not scanned")
        return {}
    model, _, features = load_model(path)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    shifts = range(config.filter.min_shift, config.filter.max_shift + 1)
    hop_seconds = features.hop / features.sample_rate
    table = {}
    for song in tqdm(songs, desc="scan", unit="song", mininterval=5):
        estimate = estimate_pitch(model, song)
        notes = [Note(i.start, i.end, int(i.symbol)) for i in (song.supervisions[0].alignment or {}).get("note", [])]
        annotated, _ = frame_targets(notes, len(estimate), hop_seconds)
        table[song.id] = best_shift(estimate, annotated, shifts)
    return table


def select(config: Config, corpus: str, songs: list[MonoCut], table: Table) -> list[MonoCut]:
    """The songs of a corpus that the table selects, with their notes shifted; the others are listed as left out."""
    report = Report(corpus)
    keeps_all = corpus == "ultrastar" and config.corpora.ultrastar.over_error == "keep"
    kept, shifted, unsure = [], 0, 0
    for song in songs:
        row = table.get(song.id)
        is_sure = row is not None and row["best_res"] <= config.filter.max_error
        if is_sure:
            shifted += row["best_offset"] != 0
            kept.append(shift_notes(song, int(row["best_offset"])))
        elif keeps_all:
            unsure += 1
            kept.append(song)
        elif row is None:
            report.leave_out(song.id, LeftOut("not in the table"))
        else:
            report.leave_out(song.id, LeftOut("over the error", f"{row['best_res']:.3f}"))
        if corpus == "ultrastar" and row is not None:
            done = "applied" if is_sure else "not applied, the error is over filter.max_error"
            print(
                f"  {song.id}: best shift {row['best_offset']:+.0f} semitones at an error of {row['best_res']:.3f} "
                f"(second best {row['sec_best_res']:.3f}), {done}"
            )
    write_left_out(report, Path(config.data_dir) / "filter")
    print(
        f"pitch-shift filter, {corpus}: {len(kept)} songs, {shifted} of them with shifted notes"
        + (f", {unsure} kept with their notes as they are" if unsure else "")
        + "".join(f"; {len(names)} {reason}" for reason, names in report.left_out.items())
    )
    return kept


def best_shift(estimate: np.ndarray, annotated: np.ndarray, shifts: range) -> dict[str, float]:
    """Compare pitch classes (T,) at each shift of the annotation; a song without notes has the error 1."""
    voiced = annotated != NO_PITCH
    if not voiced.any():
        return {"best_offset": 0, "best_res": 1.0, "sec_best_res": 1.0}
    errors = [(float((estimate[voiced] != annotated[voiced] + shift).mean()), abs(shift), shift) for shift in shifts]
    best, second = sorted(errors)[:2] if len(errors) > 1 else (errors[0], errors[0])
    return {"best_offset": best[2], "best_res": best[0], "sec_best_res": second[0]}


@torch.inference_mode()
def estimate_pitch(model: JointModel, song: MonoCut) -> np.ndarray:
    """(T,) pitch classes of a whole song, estimated in chunks."""
    sample_rate, hop = song.sampling_rate, model.features.hop
    chunk = int(CHUNK_SECONDS * sample_rate) // hop * hop
    waveform = torch.from_numpy(np.concatenate([song.load_vocals(), song.load_audio()]))  # (2, N)
    classes = []
    for start in range(0, waveform.shape[1], chunk):
        part = waveform[None, :, start : start + chunk]
        batch = Batch(part, torch.tensor([part.shape[2]]), is_song=torch.ones(1, dtype=torch.bool))
        output = model(batch.to(next(model.parameters()).device))
        classes.append(output.pitch_logits[0].argmax(dim=0).cpu().numpy())
    return np.concatenate(classes)


def shift_notes(song: MonoCut, shift: int) -> MonoCut:
    """The song with its notes moved by ``shift`` semitones; notes that leave MIDI's range are dropped."""
    supervision = song.supervisions[0]
    notes = [
        AlignmentItem(str(int(item.symbol) + shift), item.start, item.duration)
        for item in (supervision.alignment or {}).get("note", [])
        if 0 <= int(item.symbol) + shift < NUM_PITCHES
    ]
    supervision.alignment = {**(supervision.alignment or {}), "note": notes}
    supervision.custom = {**(supervision.custom or {}), "pitch_shift": shift}
    return song


def _songs(config: Config, corpus: str) -> list[MonoCut]:
    path = Path(config.data_dir) / "songs" / f"{corpus}_all.jsonl.gz"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage 2, which makes it")
    return list(load_manifest_lazy(path))


def _score(config: Config, table: Table) -> None:
    """Where the truth is known, what the filter found of it, in %."""
    truth_path = Path(config.corpora.dali.dir if config.corpora.dali else "").parent / "ground_truth.csv"
    if not truth_path.is_file():
        return
    with truth_path.open(newline="", encoding="utf-8") as stream:
        truth = [row for row in csv.DictReader(stream) if row["id"] in table]

    def share(kind: str, right) -> float:
        songs = [row for row in truth if row["kind"] == kind]
        return 100 * sum(map(right, songs)) / max(1, len(songs))

    def is_kept(row: dict) -> bool:
        return table[row["id"]]["best_res"] <= config.filter.max_error

    def has_shift(row: dict) -> bool:
        return int(table[row["id"]]["best_offset"]) == int(row["shift"])

    scores = {
        "shifts_found": share("shifted", has_shift),
        "wrong_rejected": share("wrong", lambda row: not is_kept(row)),
        "good_kept": share("good", is_kept),
    }
    with write_atomically(Path(config.data_dir) / "filter" / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores) + "\n")
    print("of the generated songs: " + ", ".join(f"{key.replace('_', ' ')} {v:.1f} %" for key, v in scores.items()))


if __name__ == "__main__":
    main()
