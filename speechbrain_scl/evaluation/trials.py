"""Trial lists and enrolment maps in the layouts that the field uses."""

import dataclasses
import io
import itertools
import os
from codecs import BOM_UTF8

import numpy as np

from speechbrain_scl.data.tables import LABELS, read_lines
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_write

# Of enrolment by several utterances: which one is used changes the figures, and
# CN-Celeb's are published in both (Avg and Concat).
CONVENTIONS = ("mean", "concatenate")
LAYOUTS = ("auto", "label_first", "label_last")
# Of the scores that are written. Figures are those of the written scores, so
# that anybody's reading of scores.txt gives them again.
DECIMALS = 6
_BLOCK = 2**23  # bytes of a list, read at a time
_ROWS = 2**15  # of a list, written at a time
_PAD = ord("\t")  # which is in no name
# From this size on, loading polars takes less time than it saves.
_LONG = 2**24  # bytes


@dataclasses.dataclass(frozen=True)
class Trials:
    """Pairs to score, as arrays. Names are held once, trials by their indices."""

    path: str
    enrol_ids: list  # the distinct names, in order of appearance
    test_ids: list
    enrol_index: np.ndarray  # int32 [T], into the names
    test_index: np.ndarray
    labels: np.ndarray  # bool [T], True where the speaker is the same
    scores: np.ndarray | None = None  # float64 [T], of DECIMALS decimals

    @property
    def name(self):
        """The list's file name without its ending."""
        return os.path.splitext(os.path.basename(self.path))[0]

    def __len__(self):
        return len(self.labels)

    def pair(self, trial):
        """The two names of a trial, as in the list."""
        enrol, test = self.enrol_index[trial], self.test_index[trial]
        return f"{self.enrol_ids[enrol]} {self.test_ids[test]}"

    def line_of(self, name):
        """Where an utterance or model comes first; None where it does not."""
        lines = self.lines()
        return next((n for n, line in lines if name in line.split()), None)

    def lines(self):
        """The file's lines with their numbers."""
        with open(self.path, encoding="utf-8-sig") as file:
            yield from enumerate(file, 1)

    def with_scores(self, scores):
        """The same list with scores [T], rounded as they are written."""
        scores = np.asarray(scores, dtype=np.float64)
        finite = np.isfinite(scores)
        if not finite.all():
            trial = int(np.argmin(finite))
            raise UserError(
                f"{self.path}: the score of {self.pair(trial)} is "
                f"{scores[trial]}: look at the model and its embeddings"
            )
        scores = scores.round(DECIMALS)
        scores += 0.0  # no negative zero
        return dataclasses.replace(self, scores=scores)


def write_scores(path, trials):
    """Writes ``<label> <enrolment> <test> <score>`` lines of scored trials."""
    names = trials.enrol_ids, trials.test_ids
    enrol, test = (_padded(f"{name} " for name in side) for side in names)
    labels = _padded(["0 ", "1 "])
    with atomic_write(path, binary=True) as file:
        for start in range(0, len(trials), _ROWS):
            block = slice(start, start + _ROWS)
            columns = [
                labels.take(trials.labels[block], 0),
                enrol.take(trials.enrol_index[block], 0),
                test.take(trials.test_index[block], 0),
                _decimal(trials.scores[block]),
            ]
            lines = np.concatenate(columns, 1)
            file.write(lines[lines != _PAD])


def _padded(words):
    """The bytes of words, uint8 [words, width]."""
    words = [word.encode() for word in words]
    width = max(map(len, words))
    text = b"".join(word.ljust(width, bytes([_PAD])) for word in words)
    return np.frombuffer(text, np.uint8).reshape(-1, width)


def _decimal(scores):
    """The bytes of scores with DECIMALS, and of line ends, [scores, width]."""
    if abs(scores).max() >= 1e9:  # not whole numbers of the last decimal
        return _padded(f"{score:.{DECIMALS}f}\n" for score in scores)
    rest = np.rint(abs(scores) * 10**DECIMALS).astype(np.int64)
    width = max(len(str(rest.max())), DECIMALS + 1)
    if width < 10:
        rest = rest.astype(np.int32)  # quicker
    text = np.empty((width + 3, len(scores)), np.uint8)
    text[0] = np.where(scores < 0, ord("-"), _PAD)
    text[-2 - DECIMALS] = ord(".")
    text[-1] = ord("\n")
    for i in range(width):
        tens = rest // 10
        digit = rest - 10 * tens + ord("0")
        if i > DECIMALS:
            digit[rest == 0] = _PAD
        text[-2 - i - (i >= DECIMALS)] = digit
        rest = tens
    return text.T


def read_trials(path, layout="auto"):
    """Reads a list of ``1 enrol test`` (VoxCeleb), ``enrol test target`` (Kaldi,
    wespeaker) or ``enrol test 1`` (CN-Celeb); the label is 1 or 0, target or
    nontarget in each. Blanks or tabs separate fields; blank lines do not count."""
    if layout not in LAYOUTS:
        raise UserError(f"trial_layout={layout!r}: choose one of {LAYOUTS}")
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such trial list")
    numbers = {}, {}, LABELS  # of names, in the order of appearance
    found, first_line = ([], [], []), 1
    read = _read_fast if os.path.getsize(path) >= _LONG else _read
    for block in _blocks(path):
        try:
            if layout == "auto":
                layout = _layout(path, first_line, block)
            columns = read(block, _order(layout))
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: not a text file in UTF-8: {error}"
            ) from error
        if not LABELS.keys() >= set(columns[2][0]):
            _refuse(path, first_line, block, layout)
        for parts, number, (words, places) in zip(found, numbers, columns):
            values = [number.setdefault(word, len(number)) for word in words]
            parts.append(np.array(values, np.int32)[places])
        first_line += block.count(b"\n")
    if not any(map(len, found[0])):
        raise UserError(f"{path}: it holds no trial")
    enrol, test, labels = map(np.concatenate, found)
    names = map(list, numbers[:2])
    trials = Trials(str(path), *names, enrol, test, labels.astype(bool))
    _check(trials)
    return trials


def _blocks(path):
    """The bytes of whole lines."""
    with open(path, "rb") as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            file.seek(0)
        while block := file.read(_BLOCK):
            yield block + file.readline()


def _read(block, order):
    """The distinct words of the enrolments, the tests and the labels, and which
    of them each trial has; an empty one of a line of another form."""
    rows = (line.split() for _, line in _lines(block))
    rows = (row if len(row) == 3 else [""] * 3 for row in rows if row)
    # No list of each line's fields stays: the garbage collector would visit
    # them all, again and again.
    words = list(itertools.chain.from_iterable(rows))
    columns = []
    for column in (words[i::3] for i in order):
        place = {word: i for i, word in enumerate(dict.fromkeys(column))}
        places = map(place.__getitem__, column)
        columns.append((place, np.fromiter(places, np.int32, len(column))))
    return columns


def _read_fast(block, order):
    """As ``_read``."""
    blanks = block.translate(None, bytes(range(33, 256)))
    plain = blanks and blanks == b"  \n" * (len(blanks) // 3)
    if not (plain and block.isascii()):
        return _read(block, order)
    import polars

    schema = dict.fromkeys("abc", polars.Categorical)
    how = {"has_header": False, "separator": " ", "quote_char": None}
    frame = polars.read_csv(block, schema=schema, **how)
    if any(frame.null_count().row(0)):  # a blank ends or starts a line
        return _read(block, order)
    columns = []
    for column in (frame[:, i] for i in order):
        words = column.unique(maintain_order=True)
        numbers = words.to_physical().to_numpy()
        place = np.empty(numbers.max() + 1, np.int32)
        place[numbers] = np.arange(len(numbers))
        places = place[column.to_physical().to_numpy()]
        columns.append((words.cast(polars.String).to_list(), places))
    return columns


def _lines(block, first=1):
    """Lines, with ends of any system, and their numbers."""
    return enumerate(io.StringIO(block.decode(), newline=None), first)


def _order(layout):
    """Where a line has the enrolment, the test and the label."""
    return (1, 2, 0) if layout == "label_first" else (0, 1, 2)


def _refuse(path, first_line, block, layout):
    """Says which of some lines is malformed."""
    for number, line in _lines(block, first_line):
        fields = line.split()
        if len(fields) not in (0, 3):
            raise UserError(
                f"{path}, line {number}: {len(fields)} fields instead of "
                f"three (label enrolment test, or enrolment test label): "
                f"{line.strip()!r}"
            )
        if fields and fields[_order(layout)[2]] not in LABELS:
            raise UserError(
                f"{path}, line {number}: the label is "
                f"{fields[_order(layout)[2]]!r}; it must be 1 or 0, target or "
                "nontarget"
            )


def _layout(path, first_line, block):
    """The layout that the first trial shows; auto where there is none yet."""
    for number, line in _lines(block, first_line):
        if fields := line.split():
            first, last = fields[0] in LABELS, fields[-1] in LABELS
            if first and last and len(fields) == 3:
                raise UserError(
                    f"{path}, line {number}: the label could be {fields[0]} or "
                    f"{fields[2]}; say which with trial_layout: label_first "
                    "or label_last"
                )
            return "label_first" if first else "label_last"
    return "auto"


def _check(trials):
    """Refuses a list of one kind of trials, or with a trial listed twice."""
    n_targets = np.count_nonzero(trials.labels)
    if n_targets in (0, len(trials)):
        missing = "a target" if n_targets == 0 else "an impostor"
        raise UserError(
            f"{trials.path}: none of its {len(trials)} trials is {missing}; "
            "no error rate can be measured"
        )
    n_tests = len(trials.test_ids)
    pairs = trials.enrol_index.astype(np.int64)
    pairs *= n_tests
    pairs += trials.test_index
    if _comes_twice(pairs, len(trials.enrol_ids) * n_tests):
        _, first = np.unique(pairs, return_index=True)
        again = np.setdiff1d(np.arange(len(trials)), first)[0]
        lines = (n for n, line in trials.lines() if line.strip())
        raise UserError(
            f"{trials.path}, line {next(itertools.islice(lines, again, None))}: "
            f"the trial {trials.pair(again)} is listed before"
        )


def _comes_twice(numbers, n):
    """Whether one of these numbers below n does."""
    if n <= 8 * len(numbers):
        seen = np.zeros(n, dtype=bool)
        seen[numbers] = True
        return np.count_nonzero(seen) < len(numbers)
    ascending = np.sort(numbers)
    return bool((ascending[1:] == ascending[:-1]).any())


def read_enrolment_map(path):
    """Model -> utterances, of lines of ``model utterance [utterance ...]``, as
    Kaldi's spk2utt and CN-Celeb's enroll.map have them."""
    models = {}
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        model, *utterances = line.split()
        if not utterances:
            raise UserError(f"{where}: {model} has no utterance")
        if model in models:
            raise UserError(f"{where}: {model} comes twice")
        if len(set(utterances)) < len(utterances):
            raise UserError(f"{where}: an utterance comes twice")
        models[model] = utterances
    return models
