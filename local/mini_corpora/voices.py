"""Who speaks and sings: variants of espeak-ng's American English, and the artists who own them.

The two test voices and their artists are in test sets only. They are of the same kind as the training voices (plain
formant settings, no whisper, no robot), so that the test asks for a new speaker and not for a new language.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Voice:
    name: str  # as espeak-ng calls it
    artist: str
    female: bool

    @property
    def lowest(self) -> int:
        """The lowest note that it sings (MIDI)."""
        return 55 if self.female else 45

    @property
    def highest(self) -> int:
        """The highest note that it sings (MIDI)."""
        return 74 if self.female else 62


TRAINING = [
    Voice("en-us+m1", "Adam Reed", female=False),
    Voice("en-us+f1", "Anna Vale", female=True),
    Voice("en-us+m3", "Carl Stone", female=False),
    Voice("en-us+f2", "Clara Moss", female=True),
    Voice("en-us+m6", "Evan Brook", female=False),
    Voice("en-us+f4", "Edith Lane", female=True),
    Voice("en-us+m7", "Noah Field", female=False),
    Voice("en-us+f5", "Laura Birch", female=True),
]
VALIDATION = [Voice("en-us+f2", "Vera Linden", female=True)]  # a voice of the training, another artist
TEST = [
    Voice("en-us+f3", "Tessa North", female=True),
    Voice("en-us+m4", "Theo South", female=False),
]
