"""Which sentence and which song stands in which corpus and split.

Made before anything sounds, from the seed alone. Test sets have their own voices; their sentences occur neither in
validation nor in training nor in the language model's text, and those of validation not in training or that text.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from altpo_model.config import MiniCorpora
from altpo_model.errors import UserError
from mini_corpora import voices
from mini_corpora.composition import Song, compose
from mini_corpora.grammar import TITLES, Sentence, draw_sentence, text_of
from mini_corpora.voices import Voice

# One stream of random numbers for each part of the plan, so that the size of one changes no other.
STREAMS = ["speech", "dali", "rwc", "jamendo", "stems", "lm", "faults", "titles"]
TWO_SENTENCES = 0.25  # share of the utterances with two sentences
RATES = (140, 191)  # words a minute of the speech, as espeak-ng counts them
SHIFTS = [-12] * 4 + [12] * 4 + [-7, -5, -2, 3, 5, 7]  # semitones by which a faulty annotation is off
DISPLACEMENTS = (3.0, 8.0)  # seconds by which a faulty annotation is late


@dataclass(frozen=True)
class Utterance:
    sentences: tuple[Sentence, ...]
    voice: Voice
    rate: int  # words a minute
    seed: int

    @property
    def text(self) -> str:
        return " ".join(text_of(sentence) for sentence in self.sentences)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a DALI song's annotation. At most one of the three is set."""

    shift: int = 0  # semitones added to its notes
    delay: float = 0.0  # seconds added to its times
    of_song: int | None = None  # it is the annotation of this song (its place in `Plan.dali`)

    @property
    def kind(self) -> str:
        if self.shift:
            return "shifted"
        return "wrong" if self.delay or self.of_song is not None else "good"


@dataclass(frozen=True)
class DaliSong:
    id: str  # 32 hexadecimal digits
    song: Song
    split: str  # train | validation | test
    fault: Fault


@dataclass(frozen=True)
class Plan:
    speech: dict[str, list[Utterance]]  # by LibriSpeech's name of the split
    dali: list[DaliSong]
    rwc: list[Song]
    jamendo: list[Song]
    stems: dict[str, list[Song]]  # train, test
    lm: list[str]  # lines of the language model's text


def make_plan(conf: MiniCorpora) -> Plan:
    """The whole plan; the same for the same ``conf``. Raises UserError for sizes that cannot be."""
    _check(conf)
    planner = _Planner(conf)
    test, validation = set(), set()
    # The order matters: what is planned later avoids the sentences held out before it.
    speech = {"test-clean": planner.utterances(conf.speech_test, voices.TEST, "test", frozenset(), test)}
    dali_test = planner.songs("dali", "test", conf.dali_test, voices.TEST, frozenset(), test)
    jamendo = planner.songs("jamendo", "test", conf.jamendo, voices.TEST, frozenset(), test)
    stems_test = planner.songs("stems", "test", conf.stems_test, voices.TEST, frozenset(), test)
    speech["dev-clean"] = planner.utterances(
        conf.speech_validation, voices.TRAINING, "validation", frozenset(test), validation
    )
    dali_validation = planner.songs(
        "dali", "validation", conf.dali_validation, voices.VALIDATION, frozenset(test), validation
    )
    held_out = frozenset(test | validation)
    seen = set()
    speech["train-clean-360"] = planner.utterances(conf.speech_train, voices.TRAINING, "train", held_out, seen)
    dali_train = planner.songs("dali", "train", conf.dali_train, voices.TRAINING, held_out, seen)
    rwc = planner.songs("rwc", "train", conf.rwc, voices.TRAINING, held_out, seen)
    stems_train = planner.songs("stems", "train", conf.stems_train, voices.TRAINING, held_out, seen)
    return Plan(
        speech=speech,
        dali=planner.with_faults([("train", dali_train), ("validation", dali_validation), ("test", dali_test)]),
        rwc=rwc,
        jamendo=jamendo,
        stems={"train": stems_train, "test": stems_test},
        lm=planner.lm_text(held_out),
    )


def _check(conf: MiniCorpora) -> None:
    counts = {name: value for name, value in vars(conf).items() if isinstance(value, int)}
    for name, value in counts.items():
        if value < 0:
            raise UserError(f"corpora.mini.{name}: {value} is negative; give a count of 0 or more")
    for name in ("dali_shifted", "dali_wrong"):
        if not 0.0 <= getattr(conf, name) <= 1.0:
            raise UserError(f"corpora.mini.{name}: {getattr(conf, name)} is no share; give a number from 0 to 1")
    if not 5.0 <= conf.song_seconds <= 600.0:
        raise UserError(f"corpora.mini.song_seconds: {conf.song_seconds} s; give a length from 5 to 600 s")


class _Planner:
    """Draws utterances and songs, each from random numbers of its own."""

    def __init__(self, conf: MiniCorpora):
        self.conf = conf

    def rng(self, stream: str, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.conf.seed, STREAMS.index(stream), *place])

    def utterances(
        self, count: int, singers: list[Voice], split: str, forbidden: frozenset[str], drawn: set[str]
    ) -> list[Utterance]:
        """``count`` utterances, the voices in turn; the text of each sentence is added to ``drawn``."""
        utterances = []
        for i in range(count):
            rng = self.rng("speech", _SPLITS[split], i)
            sentences = tuple(draw_sentence(rng, forbidden) for _ in range(1 + (rng.random() < TWO_SENTENCES)))
            drawn.update(map(text_of, sentences))
            utterances.append(
                Utterance(sentences, singers[i % len(singers)], int(rng.integers(*RATES)), int(rng.integers(2**31)))
            )
        return utterances

    def songs(
        self,
        corpus: str,
        split: str,
        count: int,
        singers: list[Voice],
        forbidden: frozenset[str],
        drawn: set[str],
    ) -> list[Song]:
        """``count`` songs, the voices in turn; the text of each line is added to ``drawn``."""
        titles = self.rng("titles", STREAMS.index(corpus), _SPLITS[split]).permutation(TITLES)
        songs = []
        for i in range(count):
            rng = self.rng(corpus, _SPLITS[split], i)

            def next_sentence(rng: np.random.Generator = rng) -> Sentence:
                sentence = draw_sentence(rng, forbidden)
                drawn.add(text_of(sentence))
                return sentence

            # A second round through the titles is numbered, so that a title names one song.
            again = f" {i // len(titles) + 1}" if i >= len(titles) else ""
            title = str(titles[i % len(titles)]) + again
            songs.append(compose(rng, title, singers[i % len(singers)], self.conf.song_seconds, next_sentence))
        return songs

    def with_faults(self, splits: list[tuple[str, list[Song]]]) -> list[DaliSong]:
        """DALI with its planted faults: shares of all songs, rounded up, all of them in the training split."""
        songs = [(split, song) for split, part in splits for song in part]
        training = [i for i, (split, _) in enumerate(songs) if split == "train"]
        shifted = min(math.ceil(self.conf.dali_shifted * len(songs)), len(training))
        wrong = min(math.ceil(self.conf.dali_wrong * len(songs)), len(training) - shifted)
        rng = self.rng("faults")
        order = [int(i) for i in rng.permutation(training)]
        faults = {i: Fault(shift=int(rng.choice(SHIFTS))) for i in order[:shifted]}
        for n, i in enumerate(order[shifted : shifted + wrong]):
            others = [j for j in training if j != i]
            if n % 2 == 0 and others:
                faults[i] = Fault(of_song=int(rng.choice(others)))
            else:
                faults[i] = Fault(delay=float(rng.uniform(*DISPLACEMENTS)))
        return [DaliSong(self.dali_id(i), song, split, faults.get(i, Fault())) for i, (split, song) in enumerate(songs)]

    def dali_id(self, place: int) -> str:
        return hashlib.md5(f"{self.conf.seed} dali {place}".encode()).hexdigest()

    def lm_text(self, forbidden: frozenset[str]) -> list[str]:
        """Lines of one to three sentences: a segment of a song has several, so the model must know how they join."""
        rng = self.rng("lm")
        return [
            " ".join(text_of(draw_sentence(rng, forbidden)) for _ in range(rng.integers(1, 4)))
            for _ in range(self.conf.lm_sentences)
        ]


_SPLITS = {"train": 0, "validation": 1, "test": 2}
