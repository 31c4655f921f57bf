"""Stage 3: find the constant pitch shift of each DALI song, or that its notes are wrong (paper, section 4.1.1).

The network that was trained on RWC estimates the pitch of every frame. For each shift, a song's error is the share of
wrong estimates among the frames in which its shifted annotation has a note. The best shift is applied to the song's
notes; a song whose best error is over filter.max_error is left out.

Writes data_dir/filter/table.csv (the columns of the authors' table: id, best_offset, best_res, sec_best_res), the
selected songs data_dir/songs/dali_selected.jsonl.gz and, for generated songs, of which the truth is known,
data_dir/filter/scores.json. With filter.table, that table is used and nothing is scanned.
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
from altpo_model.config import Config, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.model import Batch, JointModel
from altpo_model.notes import NO_PITCH, NUM_PITCHES, Note, frame_targets

COLUMNS = ("", "best_offset", "best_res", "sec_best_res")  # the first one, the song's id, has no name
CHUNK_SECONDS = 30.0


@exits_cleanly
def main() -> None:
    config = config_from(argument_parser(__doc__).parse_args())
    if config.corpora.dali is None:
        print("no DALI in the conf: nothing to filter")
        return
    path = Path(config.data_dir) / "songs" / "dali_all.jsonl.gz"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage 2, which makes it")
    songs = load_manifest_lazy(path)
    if config.filter.table:
        table = read_table(config.filter.table)
    else:
        table = scan(config, songs)
        _write_table(Path(config.data_dir) / "filter" / "table.csv", table)
    selected, rejected, unknown = [], [], []
    for song in songs:
        row = table.get(song.id)
        if row is None:
            unknown.append(song.id)
        elif row["best_res"] > config.filter.max_error:
            rejected.append(song.id)
        else:
            selected.append(shift_notes(song, int(row["best_offset"])))
    if not selected:
        raise UserError(f"the filter left no song over; filter.max_error is {config.filter.max_error}")
    with write_atomically(Path(config.data_dir) / "songs" / "dali_selected.jsonl.gz") as temporary:
        CutSet.from_cuts(selected).to_file(temporary)
    shifted = sum(table[song.id]["best_offset"] != 0 for song in selected)
    print(
        f"pitch-shift filter: {len(selected)} songs selected, {shifted} of them with shifted notes; {len(rejected)} "
        f"over the error of {config.filter.max_error}: {', '.join(rejected) or 'none'}; {len(unknown)} not in the table"
    )
    _score(config, table)


def scan(config: Config, songs: CutSet) -> dict[str, dict[str, float]]:
    """{song: {"best_offset", "best_res", "sec_best_res"}} for all songs."""
    model, _, features = load_model(Path(config.data_dir) / "filter" / "model.pt")
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    shifts = range(config.filter.min_shift, config.filter.max_shift + 1)
    hop_seconds = features.hop / features.sample_rate
    table = {}
    for song in tqdm(list(songs), desc="scan", unit="song", mininterval=5):
        estimate = estimate_pitch(model, song)
        notes = [Note(i.start, i.end, int(i.symbol)) for i in (song.supervisions[0].alignment or {}).get("note", [])]
        annotated, _ = frame_targets(notes, len(estimate), hop_seconds)
        table[song.id] = best_shift(estimate, annotated, shifts)
    return table


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


def read_table(path: str | Path) -> dict[str, dict[str, float]]:
    """A table in the authors' form. Raises UserError where a column is missing or a value is no number."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such filter table (conf key filter.table)")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        missing = [column for column in COLUMNS[1:] if column not in header[1:]]
        if missing:
            raise UserError(f"{path}: a filter table has the columns id,{','.join(COLUMNS[1:])}; missing: {missing[0]}")
        where = {column: header.index(column) for column in COLUMNS[1:]}
        table = {}
        for number, row in enumerate(reader, start=2):
            try:
                table[row[0]] = {column: float(row[index]) for column, index in where.items()}
            except (IndexError, ValueError):
                raise UserError(f"{path}, line {number}: not a row of a filter table: {','.join(row)}") from None
    return table


def _write_table(path: Path, table: dict[str, dict[str, float]]) -> None:
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([song, *(row[column] for column in COLUMNS[1:])] for song, row in table.items())


def _score(config: Config, table: dict[str, dict[str, float]]) -> None:
    """Where the truth is known, what the filter found of it, in %."""
    truth_path = Path(config.corpora.dali.dir).parent / "ground_truth.csv"
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
