"""Typed configuration of the whole recipe.

A conf file is YAML. It may name a ``base:`` file (relative to itself) and then states only what differs. Each
section below is one dataclass; a key that no dataclass has, or a value of another type, is a `ConfigError` that
names the file, the key and the nearest known key.
"""

import argparse
import dataclasses
import difflib
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from altpo_model.errors import UserError


class ConfigError(UserError):
    """A conf file that cannot be used; the message is for the person who wrote it."""


@dataclass
class MiniCorpora:
    """Sizes of the generated corpora (stage 0). Songs last about ``song_seconds`` each."""

    dir: str = "data/mini/corpora"
    seed: int = 2022
    speech_train: int = 1200  # utterances of LibriSpeech train-clean-360
    speech_validation: int = 60  # dev-clean
    speech_test: int = 100  # test-clean, voices and sentences unseen in training
    dali_train: int = 200  # songs, those with faulty annotation included
    dali_validation: int = 6
    dali_test: int = 12
    dali_shifted: float = 0.15  # share of all DALI songs whose notes are shifted by a constant
    dali_wrong: float = 0.10  # share of all DALI songs whose annotation is of another song or another time
    rwc: int = 24
    jamendo: int = 6
    stems_train: int = 16  # MUSDB18-like stems for the separator
    stems_test: int = 6
    song_seconds: float = 32.0
    accompaniment_db: float = -3.0  # level of the accompaniment over the vocals, in dB RMS
    lm_sentences: int = 20000  # lines of the language model text


@dataclass
class LibriSpeech:
    dir: str = "corpora/LibriSpeech"
    download: bool = False  # stage 0 fetches the parts that are missing, through Lhotse, from openslr.org
    train: list[str] = field(default_factory=lambda: ["train-clean-360", "train-other-500"])  # paper, section 4.1
    validation: list[str] = field(default_factory=lambda: ["dev-clean"])
    test: list[str] = field(default_factory=lambda: ["test-clean"])


@dataclass
class Split:
    """How songs are divided into train, validation and test; ``split: paper`` is short for ``split: {by: paper}``.

    ``paper``: the songs that ``filter.table`` selects, shuffled by ``numpy.random.RandomState(seed)`` in table order
    and cut in the proportions of ``ratio``, whether their audio is there or not: a song is in the same part for all.
    ``ratio``: the same with the songs that are there. ``artist``: the songs of the named artists, so that no singer is
    in two parts; all others train. ``train``, ``test``: all songs in this part.
    """

    SHORT_FOR = "by"
    by: str = "ratio"
    ratio: list[int] = field(default_factory=lambda: [18, 1, 1])
    seed: int = 3756
    validation_artists: list[str] = field(default_factory=list)
    test_artists: list[str] = field(default_factory=list)


@dataclass
class Dali:
    dir: str = "corpora/DALI/annotations"  # <dali_id>.gz, or <dali_id>.json as DALI's write_json exports
    audio_dir: str = "corpora/DALI/audio"  # <dali_id>.<any audio format>
    metadata: str | None = None  # dali_v1_metadata.json: tells which songs of DALI are not there
    ground_truth: str | None = None  # gt_v1.0_*.gz: corrected offsets and frame rates of some songs
    languages: list[str] | None = field(default_factory=lambda: ["english"])  # null: every language
    split: Split = field(default_factory=Split)


@dataclass
class Rwc:
    audio_dir: str = "corpora/RWC/audio"  # RM-P001.wav ...
    annotation_dir: str = "corpora/RWC/AIST.RWC-MDB-P-2001.SMF_SYNC"  # RM-P001.SMF_SYNC.MID ...
    melody_track: str = "melody"  # a track whose name contains this, in any case
    languages: list[str] | None = field(default_factory=lambda: ["Japanese"])  # and English; null: both
    train_songs: int = 64  # the first songs by name train, the others test (64/16 of the 80 Japanese songs)


@dataclass
class MirSt500:
    """500 pop songs with notes, free to get, in place of RWC for the pitch network (Wang and Jang, ICASSP 2021)."""

    annotation: str = "corpora/MIR-ST500/MIR-ST500_corrected.json"  # {song: [[onset, offset, MIDI number], ...]}
    audio_dir: str = "corpora/MIR-ST500"  # <song>.<any audio format> or [train|test]/<song>/Mixture.<any audio format>
    train_songs: int = 400  # songs numbered up to this train, the others test; the data set's own division


@dataclass
class Jamendo:
    dir: str = "corpora/JamendoLyrics"
    languages: list[str] | None = field(default_factory=lambda: ["English"])  # null: every language


@dataclass
class UltraStar:
    """One's own karaoke files: a folder of songs, each with its audio and its UltraStar text file."""

    dir: str = "corpora/UltraStar"
    languages: list[str] | None = field(default_factory=lambda: ["English"])  # null: every language
    split: Split = field(default_factory=lambda: Split(by="test"))
    over_error: str = "keep"  # keep | drop: songs whose best error is over filter.max_error; kept ones are not shifted


@dataclass
class Corpora:
    """The corpora of a run; null leaves one out."""

    mini: MiniCorpora | None = None  # null: nothing is generated
    librispeech: LibriSpeech | None = field(default_factory=LibriSpeech)
    dali: Dali | None = field(default_factory=Dali)
    rwc: Rwc | None = field(default_factory=Rwc)
    mir_st500: MirSt500 | None = None
    jamendo: Jamendo | None = field(default_factory=Jamendo)
    ultrastar: UltraStar | None = None


LYRICS_CORPORA = ("dali", "ultrastar")  # words and notes: filtered, divided, trained and tested on
PITCH_CORPORA = ("rwc", "mir_st500")  # notes alone: for the filter's pitch network


@dataclass
class SeparatorTraining:
    """A small Open-Unmix trained on the generated stems. Null in a conf that uses a ready model."""

    stems_dir: str = "data/mini/corpora/stems"  # {train,test}/<track>/{mixture,vocals}.wav, as MUSDB18-HQ
    n_fft: int = 1024
    n_hop: int = 512
    hidden_size: int = 128  # of the encoder and the three BiLSTM layers, which Open-Unmix's loader fixes
    bandwidth: float = 8000.0  # Hz
    steps: int = 800
    batch_size: int = 8
    segment_seconds: float = 3.0
    learning_rate: float = 5e-3


@dataclass
class Separation:
    model: str = "umxhq"  # a pretrained Open-Unmix by name, or a directory in Open-Unmix's layout
    training: SeparatorTraining | None = None
    chunk_seconds: float = 30.0
    overlap_seconds: float = 1.0  # cross-faded
    wiener_iterations: int = 0  # niter of openunmix.model.Separator
    sample_rate: int = 16000  # Hz, of the stored mixture and vocals (paper, section 4.1)


@dataclass
class Filter:
    """Pitch-shift filtering of DALI (paper, section 4.1.1)."""

    min_shift: int = -24  # semitones
    max_shift: int = 12
    max_error: float = 0.5  # a song is selected when its best error is at most this
    table: str | None = None  # a ready table (columns: id, best_offset, best_res, sec_best_res) in place of the scan


@dataclass
class Segments:
    by: str = "pauses"  # pauses | fixed
    max_seconds: float = 16.0  # paper, section 4.1: T = 1000 frames of 16 ms
    min_pause: float = 0.3  # seconds between two words at which a song may be cut
    join: bool = True  # phrases are joined while the segment stays within max_seconds
    padding: float = 0.2  # seconds kept before the first and after the last word
    alignments: list[str] = field(default_factory=list)  # of recipe/align.py: songs that they call unfit are left out


@dataclass
class Features:
    sample_rate: int = 16000  # Hz
    window: int = 512  # samples
    hop: int = 256  # samples: 16 ms
    mel_bins: int = 80


@dataclass
class LanguageModel:
    text: str = "corpora/LibriSpeech/librispeech-lm-norm.txt.gz"  # one sentence a line, plain or gzip
    order: int = 5
    prune: list[int] = field(default_factory=lambda: [0, 0, 1])
    max_words: int = 200000
    memory: str = "1G"  # of lmplz, which sorts on disk what does not fit
    quantize: int | None = None  # bits of each probability and back-off weight in the binary file; null: exact
    token_order: int = 6  # of the model over tokens, for ctc-beam-search-lexicon-free; KenLM's highest


@dataclass
class SpecAugment:
    """Random masks over the features in training (Park et al., Interspeech 2019); the paper uses none."""

    frequency_masks: int = 2
    frequency_width: int = 12  # mel bands at the most
    time_masks: int = 2
    time_width: int = 12  # frames at the most


@dataclass
class Network:
    """An encoder by its registered name and its options; ``altpo_model/encoders`` says which there are."""

    encoder: str = "crnn"
    encoder_conf: dict[str, Any] = field(default_factory=dict)
    spec_augment: SpecAugment | None = None


@dataclass
class Conditioning:
    """How the lyrics network takes in pitch and onset, whatever its encoder; ``altpo_model/conditioning.py``."""

    kind: str = "concat"  # concat (paper, section 3.2) | film (feature-wise linear modulation) | none
    pitch: str = "posterior"  # posterior: all 129 classes (paper) | chroma: 12 pitch classes and no-pitch


@dataclass
class Model:
    pitch_onset: Network = field(default_factory=Network)  # paper, section 3.1
    lyrics: Network = field(default_factory=Network)  # paper, section 3.2
    conditioning: Conditioning = field(default_factory=Conditioning)  # of the lyrics network
    intermediate_ctc_layer: int | None = None  # of the lyrics encoder, from 1, with a CTC loss of its own; null: none


@dataclass
class Augmentation:
    """Random changes to the waveforms of a training batch, ``altpo_model/augmentation.py``; the paper uses none."""

    vocals_gain: float = 0.0  # dB at the most, by which the vocals are louder or softer against the accompaniment
    other_accompaniment: float = 0.0  # share of the songs that get the accompaniment of another song of the batch
    pitch_shift: int = 0  # semitones at the most, by which a clip and its notes are shifted up or down


@dataclass
class Training:
    """One training run: optimiser, batches, stopping. Adam has betas 0.9, 0.999 and epsilon 1e-8 (section 4.2)."""

    learning_rate: float = 5e-4  # section 4.2
    warmup_steps: int = 100  # batches of linear warm-up; section 4.2
    decay: bool = False  # after the warm-up, linearly down to a twentieth at the end
    epoch_steps: int = 2000  # batches between two validations
    epochs: int = 100
    patience: int = 10  # epochs of validation without gain before the training stops; section 4.2
    batch_size: int = 16  # segments of one step of the optimiser, over all devices and parts; section 4.2
    accumulate: int = 1  # parts of a batch that a device computes one after the other, to save memory
    song_share: float = 0.8  # of the segments of a mixed batch, rounded down; the rest is speech; section 4.2
    shuffle_buffer: int = 2000  # segments in memory, of which a batch is drawn
    gradient_clip: float = 5.0  # norm
    weight_pitch: float = 1.0
    weight_onset: float = 1.0
    weight_lyrics: float = 1.0
    intermediate_share: float = 0.5  # of weight_lyrics that the loss at model.intermediate_ctc_layer has
    ctc: str = "torch"  # torch | k2: which computes the CTC loss
    note_weight: float = 2.0  # of the 128 note classes over no-pitch; the authors' scripts
    onset_weight: float = 20.0  # of a frame with an onset over one without; the authors' scripts
    augmentation: Augmentation | None = None
    start_lyrics: bool = True  # song systems start from the lyrics network that was trained on speech, if any was
    start_pitch_onset: bool = False  # multitask starts from the trained pitch_onset system
    average: int = 1  # checkpoints whose mean the finished model is; 1: the best one
    average_of: str = "best"  # best (by the validation set) | last (one at each validation)
    precision: str = "32-true"  # in lightning's words
    workers: int = 2  # data loading processes of each device


@dataclass
class Trainer:
    """Where trainings run and what they keep; what they learn does not depend on it."""

    accelerator: str = "auto"  # auto | cpu | gpu, in lightning's words
    devices: int = 1  # of each machine; on a CPU: processes. Under torchrun and srun, these say it
    nodes: int = 1  # machines; likewise
    find_unused_parameters: bool = (
        False  # of several devices: true where an encoder leaves some out of a batch (LayerDrop)
    )
    prefetch: int = 2  # batches that each data loading process holds ready; torch's default
    checkpoint_steps: int | None = 1000  # steps between two checkpoints within an epoch; null: at its end alone
    shar: bool = False  # read training segments from the shards of recipe/export_shar.py, not from single files
    shard_segments: int = 500  # in a shard; as FLAC, 16 s of two signals are about half a megabyte
    tensorboard: bool = True  # curves in exp_dir/<run>/tensorboard
    curve_steps: int = 10  # steps between two points of the training curves


@dataclass
class Decoding:
    """Search for words, with icefall's names of the methods (altpo_model/decoding), and for notes.

    A word sequence W with a CTC path A scores  sum_t ln p(A_t | X)  +  lm_scale * ln p_LM(W)  +  word_score * |W|.
    """

    methods: list[str] = field(default_factory=lambda: ["ctc-greedy-search", "ctc-beam-search", "1best"])
    lm_scale: float | None = None  # null: tuned on the validation set, for each method by itself
    word_score: float | None = None  # null: tuned likewise
    tune_lm_scales: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.4, 0.6, 0.9, 1.3])
    tune_word_scores: list[float] = field(default_factory=lambda: [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    # ctc-beam-search
    beam: int = 25  # paper, section 4.2
    beam_tokens: int = 10  # tokens considered a frame
    beam_threshold: float = 20.0  # hypotheses worse than the best by this are dropped
    blank_threshold: float = 0.999  # of frames in a row whose blank is surer than this the first is searched; 1: all
    # methods on graphs
    backend: str = "auto"  # auto (k2 where it is installed) | k2 | kaldi
    hlg_order: int | None = 3  # n-grams up to this order are in HLG; null: all. Rescoring takes all
    search_beam: float = 16.0  # paths worse than the best by this are dropped
    output_beam: float = 8.0  # the same for what stays in a lattice; icefall's default
    min_active: int = 30  # states that are kept in any case; icefall's default
    max_active: int = 10000  # states that are kept at most; icefall's default
    num_paths: int = 100  # sampled from a lattice for the nbest methods
    nbest_scale: float = 0.5  # of the scores in sampling; smaller: more different paths. icefall's default
    # notes
    onset_threshold: float = 0.4  # paper, section 4.2
    onset_window: float = 0.05  # seconds
    max_seconds: float = 480.0  # audio of one batch


@dataclass
class Alignment:
    """Alignment of given lyrics, altpo_model/decoding/align.py; probabilities are of one frame of the network."""

    star: bool = False  # whether there may be words between the lines that the lyrics do not have
    star_probability: float = 0.4  # the least that a star gives a frame
    blank_weight: float = 0.7  # of a blank within a word; 1: as between words
    floor: float = 3e-5  # the least probability of a character
    margin: float = 1.0  # frames that a word may reach beyond its first and its last character's
    min_score: float = -4.0  # songs and lines that score less do not fit the audio


@dataclass
class Scoring:
    onset_tolerance: float = 0.05  # seconds; mir_eval's default
    pitch_tolerance: float = 50.0  # cents; mir_eval's default


@dataclass
class Trained:
    """A finished run whose language model, separator and systems are used as they are."""

    data_dir: str = "data/mini"
    exp_dir: str = "exp/mini"


@dataclass
class Config:
    """Everything that a run needs; ``name`` is the conf file's, and names ``exp/<name>``."""

    name: str = ""
    data_dir: str = "data/main"  # manifests, separated audio, cuts, lang directory, language model
    lang: str = "char"  # tokens: char, bpe_<V> (V SentencePiece pieces) or the path of a lang directory
    exp_dir: str = ""  # default: exp/<name>
    trained: Trained | None = None  # take the models of a finished run and train none
    seed: int = 2022
    jobs: int = 2  # processes of the preparation stages
    parallel_systems: int = 1  # systems of stage 7 that train at the same time
    threads: int = 0  # torch threads of a training or decoding process; 0: as many as there are cores
    corpora: Corpora = field(default_factory=Corpora)
    separation: Separation = field(default_factory=Separation)
    filter: Filter = field(default_factory=Filter)
    segments: Segments = field(default_factory=Segments)
    features: Features = field(default_factory=Features)
    lm: LanguageModel = field(default_factory=LanguageModel)
    model: Model = field(default_factory=Model)
    filter_training: Training = field(default_factory=Training)
    speech_training: Training = field(default_factory=Training)
    pitch_onset_training: Training = field(default_factory=Training)
    song_training: Training = field(default_factory=Training)
    trainer: Trainer = field(default_factory=Trainer)
    decoding: Decoding = field(default_factory=Decoding)
    alignment: Alignment = field(default_factory=Alignment)
    scoring: Scoring = field(default_factory=Scoring)


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a conf file with its base files, then apply ``overrides`` such as ``"corpora.jamendo.dir=DIR"``.

    Raises ConfigError for a missing file, a YAML error, an unknown key or a value of the wrong type.
    """
    path = Path(path)
    tree = _read_tree(path, seen=())
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: write KEY=VALUE, such as --set decoding.beam=50")
        try:
            branch = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML ({' '.join(str(error).split())})") from None
        for part in reversed(key.split(".")):
            branch = {part: branch}
        tree = _merge(tree, branch)
    config = _build(Config, tree, str(path), "")
    config.name = config.name or path.stem
    config.exp_dir = config.exp_dir or f"exp/{config.name}"
    return config


def section_from(kind: type, tree: dict, source: str) -> Any:
    """One section, such as `Model`, from the plain dictionary that ``dataclasses.asdict`` makes of it."""
    return _build(kind, tree, source, "")


def argument_parser(description: str) -> argparse.ArgumentParser:
    """The command line that every program of the recipe shares: ``--conf FILE`` and ``--set KEY=VALUE``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="conf/mini.yaml", help="conf file (default: %(default)s)")
    parser.add_argument("--set", dest="overrides", action="append", metavar="KEY=VALUE", help="change one conf key")
    return parser


def config_from(arguments: argparse.Namespace) -> Config:
    """The configuration that the shared command line names."""
    return load_config(arguments.conf, arguments.overrides)


def _read_tree(path: Path, seen: tuple[Path, ...]) -> dict:
    if not path.is_file():
        raise ConfigError(f"{path}: no such conf file; the ready ones are in conf/")
    if path.resolve() in seen:
        raise ConfigError(f"{path}: its `base:` files form a circle")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a conf file holds `key: value` lines, not a {type(tree).__name__}")
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: `base` must be the path of a conf file, not {base!r}")
    return _merge(_read_tree(path.parent / base, (*seen, path.resolve())), tree)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 5e-4 as a number (YAML 1.1 wants 5.0e-4)."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def _merge(base: Any, change: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    if change.get("encoder", base.get("encoder")) != base.get("encoder"):
        base = {key: value for key, value in base.items() if key != "encoder_conf"}  # options of another encoder
    return {**base, **{key: _merge(base.get(key), value) for key, value in change.items()}}


def _build(kind: Any, value: Any, file: str, key: str) -> Any:
    """Make ``value`` (from YAML) a ``kind`` or say in one line why it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        options = [option for option in arguments if option is not type(None)]
        for option in options[:-1]:
            if isinstance(value, option):
                return value
        return _build(options[-1], value, file, key)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, str) and hasattr(kind, "SHORT_FOR"):
            value = {kind.SHORT_FOR: value}
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: {key or 'the file'} must be a section of `key: value` lines, not {value!r}")
        known = {f.name: typing.get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}
        for name in value:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
                raise ConfigError(f"{file}: unknown key `{_join(key, name)}`; did you mean `{_join(key, near[0])}`?")
        return kind(**{name: _build(known[name], item, file, _join(key, name)) for name, item in value.items()})
    if origin is list:
        if not isinstance(value, list):
            raise ConfigError(f"{file}: `{key}` must be a list, not {value!r}")
        return [_build(arguments[0], item, file, f"{key}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: `{key}` must be a section of `key: value` lines, not {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{file}: `{key}` must be {_NAMES.get(kind, kind.__name__)}, not {value!r}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else str(name)
