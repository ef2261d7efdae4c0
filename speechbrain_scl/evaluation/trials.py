"""Trial lists and enrolment maps in the layouts that the field uses."""

import dataclasses
import io
import itertools
import os
from codecs import BOM_UTF8

import numpy as np

from speechbrain_scl.data.tables import read_lines
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_write

# Of enrolment by several utterances: which one is used changes the figures, and
# CN-Celeb's are published in both (Avg and Concat).
CONVENTIONS = ("mean", "concatenate")
LAYOUTS = ("auto", "label_first", "label_last")
_IMPOSTOR = ("0", "nontarget", "non-target", "imposter", "impostor")
LABELS = {"1": 1, "target": 1, **dict.fromkeys(_IMPOSTOR, 0)}
# Of the scores that are written. Figures are those of the written scores, so
# that anybody's reading of scores.txt gives them again.
DECIMALS = 6
_BLOCK = 2**23  # bytes of a list, read at a time
_ROWS = 2**18  # of a list, written at a time


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
    import polars  # which who only decides need not load

    enrol, test = map(polars.Series, (trials.enrol_ids, trials.test_ids))
    with atomic_write(path, binary=True) as file:
        for start in range(0, len(trials), _ROWS):
            block = slice(start, start + _ROWS)
            columns = {
                "label": trials.labels[block].view(np.uint8),
                "enrol": enrol.gather(trials.enrol_index[block]),
                "test": test.gather(trials.test_index[block]),
                "score": trials.scores[block],
            }
            polars.DataFrame(columns).write_csv(
                file,
                include_header=False,
                separator=" ",
                quote_style="never",
                float_precision=DECIMALS,
            )


def read_trials(path, layout="auto"):
    """Reads a list of ``1 enrol test`` (VoxCeleb), ``enrol test target`` (Kaldi,
    wespeaker) or ``enrol test 1`` (CN-Celeb); the label is 1 or 0, target or
    nontarget in each. Blanks or tabs separate fields; blank lines do not count."""
    if layout not in LAYOUTS:
        raise UserError(f"trial_layout={layout!r}: choose one of {LAYOUTS}")
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such trial list")
    numbers = {}, {}, dict(LABELS)  # of names, in the order of appearance
    found = [], [], []
    for first_line, block in _blocks(path):
        try:
            if layout == "auto":
                layout = _layout(path, first_line, block)
            frame = _table(path, first_line, block)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: not a text file in UTF-8: {error}"
            ) from error
        for parts, number, i in zip(found, numbers, _order(layout)):
            column = frame[:, i]
            words = column.unique(maintain_order=True)
            codes = words.to_physical().to_numpy()
            of_code = np.zeros(codes.max(initial=0) + 1, np.int32)
            of_code[codes] = [number.setdefault(x, len(number)) for x in words]
            parts.append(of_code[column.to_physical()])
        if len(numbers[2]) > len(LABELS):
            _refuse_label(path, first_line, block, layout)
    if not any(map(len, found[0])):
        raise UserError(f"{path}: it holds no trial")
    enrol, test, labels = map(np.concatenate, found)
    names = map(list, numbers[:2])
    trials = Trials(str(path), *names, enrol, test, labels.astype(bool))
    _check(trials)
    return trials


def _blocks(path):
    """The bytes of whole lines, and the number of the first."""
    first_line = 1
    with open(path, "rb") as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            file.seek(0)
        while block := file.read(_BLOCK):
            block += file.readline()
            yield first_line, block
            first_line += block.count(b"\n")


def _table(path, first_line, block):
    """The three fields of each trial, as numbers of words."""
    import polars

    how = {"schema": dict.fromkeys("abc", polars.Categorical)}
    how |= {"has_header": False, "separator": " ", "quote_char": None}
    blanks = block.translate(None, bytes(range(33, 256)))
    if block.isascii() and blanks == b"  \n" * (len(blanks) // 3) and blanks:
        frame = polars.read_csv(block, **how)
        if not any(frame.null_count().row(0)):
            return frame
    # Other blanks, several of them, or lines that hold no trial
    rows = []
    for number, line in _lines(block, first_line):
        fields = line.split()
        if len(fields) not in (0, 3):
            raise UserError(
                f"{path}, line {number}: {len(fields)} fields instead of "
                f"three (label enrolment test, or enrolment test label): "
                f"{line.strip()!r}"
            )
        if fields:
            rows.append(" ".join(fields))
    text = "\n".join(rows).encode()
    return polars.read_csv(text, raise_if_empty=False, **how)


def _lines(block, first_line):
    """Lines, with ends of any system, and their numbers."""
    return enumerate(io.StringIO(block.decode(), newline=None), first_line)


def _order(layout):
    """Where a line has the enrolment, the test and the label."""
    return (1, 2, 0) if layout == "label_first" else (0, 1, 2)


def _refuse_label(path, first_line, block, layout):
    """Says which of some lines has another one."""
    for number, line in _lines(block, first_line):
        label = line.split()[_order(layout)[2] :][:1]
        if label and label[0] not in LABELS:
            raise UserError(
                f"{path}, line {number}: the label is {label[0]!r}; it must "
                "be 1 or 0, target or nontarget"
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
