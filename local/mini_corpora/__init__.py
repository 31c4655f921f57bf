"""Small corpora made by machine, in the on-disk layouts of LibriSpeech, DALI, RWC, JamendoLyrics and MUSDB18-HQ.

grammar        the sentences
voices         who speaks and sings
composition    a song on paper: words, notes, chords, all times
plan           which sentence and which song stands in which corpus and split
espeak         a sentence spoken, with the times of its phonemes
syllables      where the syllables lie in it
singing        a song sung: speech re-synthesised at the pitch and length of the notes
accompaniment  chords, bass, drums and lead, as notes and as sound
rendering      what a worker process does: plan in, audio files out
workers        the worker processes
librispeech, dali, rwc, jamendo, stems    the layouts
"""
