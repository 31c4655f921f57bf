"""Copy the segments of the training sets with their audio into Lhotse Shar: shards that are read from end to end.

Reads data_dir/cuts/<corpus>_train.jsonl.gz; writes data_dir/shar/<corpus>_train/ with trainer.shard_segments segments a
shard: cuts.<number>.jsonl.gz, recording.<number>.tar and, of songs, vocals.<number>.tar (FLAC). With trainer.shar,
training reads them. `lhotse shar export -a flac -c vocals:flac` is not enough: it makes segments begin at zero, but
leaves their words and notes in the time of the song.

With shards, a training holds the audio of `shuffle_buffer` segments in memory, and one that goes on after an
interruption first reads its way to the place where it was.
"""

import shutil
from dataclasses import replace

from lhotse import CutSet
from lhotse.audio import audio_backend
from lhotse.cut import Cut
from tqdm import tqdm

from altpo_model.config import Config, argument_parser, config_from
from altpo_model.errors import UserError, exits_cleanly
from recipe.data import cuts_path, is_song, load_cuts, shar_path


@exits_cleanly
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--name", action="append", help="only this set, such as dali_train (default: all that train)")
    arguments = parser.parse_args()
    config = config_from(arguments)
    names = arguments.name or sorted(
        path.name.removesuffix(".jsonl.gz") for path in cuts_path(config, "").parent.glob("*_train.jsonl.gz")
    )
    if not names:
        raise UserError(f"{cuts_path(config, '').parent}: no training sets; run stage 4, which makes them")
    config.trainer.shar = False
    for name in names:
        export(config, name)


def export(config: Config, name: str) -> None:
    """Write the shards of one set, whole or not at all."""
    cuts = load_cuts(config, name)
    fields = {"recording": "flac", **({"vocals": "flac"} if is_song(next(iter(cuts))) else {})}
    folder = shar_path(config, name)
    unfinished = folder.with_name(f".{name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with audio_backend("LibsndfileBackend"):  # the one whose 16-bit FLAC is what was read
        whole = CutSet(_at_zero(cut) for cut in tqdm(cuts, desc=name, mininterval=5))
        whole.to_shar(unfinished, fields, shard_size=config.trainer.shard_segments)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    print(f"{name}: {len(cuts)} segments in {folder}")


def _at_zero(cut: Cut) -> Cut:
    """The cut with its alignments in the time of a recording that begins where the cut does."""
    moved = []
    for supervision in cut.supervisions:
        alignment = {
            kind: [item._replace(start=item.start - cut.start) for item in items]
            for kind, items in (supervision.alignment or {}).items()
        }
        moved.append(replace(supervision, alignment=alignment))
    return replace(cut, supervisions=moved)


if __name__ == "__main__":
    main()
