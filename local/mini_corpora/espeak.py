"""Speech by libespeak-ng (in the espeakng-loader package), with the times of its words and phonemes.

The library is one global engine: one process can hold one `Engine`. What it speaks depends on what it has spoken
before (noise generators and filters keep their state), so that the same bytes come only from a fresh process that makes
the same calls in the same order. The breath of some voices is drawn from a generator that the library seeds by the
clock; it is seeded anew here.
"""

import ctypes
from dataclasses import dataclass

import espeakng_loader
import numpy as np

from altpo_model.errors import UserError

SAMPLE_RATE = 22050  # Hz

# From espeak-ng's speak_lib.h
_SYNCHRONOUS = 2
_INITIALIZE = 0x0001 | 0x0002 | 0x8000  # phoneme events, with IPA names; do not exit when the voices are not found
_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETERS = {"rate": 1, "pitch": 3, "range": 4}
_SEED = 1  # any
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, the first is 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Phoneme:
    symbol: str  # IPA, with stress marks
    start: float  # seconds
    end: float  # seconds; a closure or a pause before the next phoneme is not in it


@dataclass(frozen=True)
class WordGroup:
    """Words that espeak-ng speaks as one, such as "in the"; most groups are one word."""

    first: int  # place of the first word in the text
    phonemes: tuple[Phoneme, ...]


@dataclass(frozen=True)
class Speech:
    samples: np.ndarray  # (N,) float64 in [-1, 1), 22.05 kHz
    groups: tuple[WordGroup, ...]


class Engine:
    """The speaking engine of this process. Raises UserError when the library or its voices cannot be loaded."""

    def __init__(self):
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise UserError(f"espeakng-loader: its library cannot be loaded ({error}); reinstall the package") from None
        data = espeakng_loader.get_data_path()
        if self._library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _INITIALIZE) != SAMPLE_RATE:
            raise UserError(
                f"{data}: libespeak-ng cannot read its voices; reinstall espeakng-loader, or use a shorter path "
                "(it takes at most 160 characters)"
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        self._blocks: list[bytes] = []
        self._events: list[tuple[int, int, int, str]] = []  # type, text position, sample, phoneme
        self._callback = _Callback(self._receive)  # kept: the library holds no reference to it
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, rate: int, pitch: int = 50, pitch_range: int = 50) -> Speech:
        """Speak ``text`` (words joined by one space).

        ``rate`` is in words a minute; ``pitch`` and ``pitch_range`` go from 0 to 100, 50 is the voice's own.
        Raises UserError for a voice that the library does not have.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(f"espeakng-loader: no voice {voice!r}; install the pinned version of the package")
        for name, value in (("rate", rate), ("pitch", pitch), ("range", pitch_range)):
            self._library.espeak_SetParameter(_PARAMETERS[name], value, 0)
        self._blocks.clear()
        self._events.clear()
        encoded = text.encode()
        self._library.espeak_Synth(
            ctypes.c_char_p(encoded), ctypes.c_size_t(len(encoded) + 1), 0, _POSITION_CHARACTER, 0, _UTF8, None, None
        )
        samples = np.frombuffer(b"".join(self._blocks), dtype=np.int16).astype(np.float64) / 32768.0
        return Speech(samples, tuple(self._groups(text)))

    def _receive(self, samples, count, events) -> int:
        if samples and count > 0:
            self._blocks.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != _END_OF_LIST:
            event = events[i]
            if event.type in (_WORD, _PHONEME):
                symbol = event.id.string.decode("utf-8", "replace") if event.type == _PHONEME else ""
                self._events.append((event.type, event.text_position, event.sample, symbol))
            i += 1
        return 0

    def _groups(self, text: str) -> list[WordGroup]:
        words_before = {}  # the text position of each word's first character -> how many words come before it
        position = 1
        for i, word in enumerate(text.split(" ")):
            words_before[position] = i
            position += len(word) + 1
        groups = []
        for i, (kind, position, sample, symbol) in enumerate(self._events):
            if kind == _WORD:
                groups.append((words_before[position], []))
            elif symbol:  # an event without a name is a pause
                end = self._events[i + 1][2]  # the last event of all is a pause
                groups[-1][1].append(Phoneme(symbol, sample / SAMPLE_RATE, end / SAMPLE_RATE))
        return [WordGroup(first, tuple(phonemes)) for first, phonemes in groups if phonemes]
