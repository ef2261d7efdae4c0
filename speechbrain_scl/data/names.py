"""The names that a list gives to a corpus's files, resolved in one place: the
preparation keeps out of training what the verification tests."""

import os
import posixpath
import unicodedata
from collections import defaultdict

from speechbrain_scl.data.audio import READABLE, TO_CONVERT, find_audio
from speechbrain_scl.errors import UserError


def locate(names, roots, source, line_of=None, files=None, other_corpus=False):
    """Finds the audio file of each name of a list, as a dict.

    Names are paths below a root's wav/ folder, below a root, or absolute ones
    that lead there. Slashes or backslashes, upper or lower case, composed or
    decomposed letters (Unicode NFC, NFD), and .wav, .flac or no ending stand
    for each other. A name without a file is an error unless the list may be
    of another corpus. ``files`` are all below the roots, where known.
    """
    index = None if files is None else _index(files, roots)
    found = {}
    for name in names:
        place, path = below(name, roots), None
        if place is None and other_corpus:
            continue
        if place is None:
            raise UserError(
                f"{source}{_in_line(line_of, name)}: {name} leads out of the "
                "data folders; name utterances by their path below one"
            )
        if index is None:
            # As it is spelt, it is found without listing the corpus.
            spelt = [name, *(_stem(name) + ending for ending in READABLE)]
            places = [p for r in roots for p in (os.path.join(r, "wav"), r)]
            paths = (os.path.join(p, s) for p in places for s in spelt)
            path = next(filter(os.path.isfile, paths), None)
            if path is None:
                places = filter(os.path.isdir, roots)
                files = [f for p in places for f in find_audio(p, READABLE)]
                index = _index(files, roots)
        if path := path or _choose(name, place, index, source):
            found[name] = path
    missing = [name for name in names if name not in found]
    if missing and not other_corpus:
        raise UserError(
            f"{source}: {len(missing)} of {len(names)} utterances are not below "
            f"{', '.join(map(str, roots))}; the first is {missing[0]}"
            f"{_in_line(line_of, missing[0])}"
        )
    return found


def tidy(name):
    """One spelling of the many that a path may have; case stays."""
    name = unicodedata.normalize("NFC", os.fspath(name)).replace("\\", "/")
    return posixpath.normpath(name)


def spelling(name):
    """What all spellings of a speaker or a path share, but for its ending."""
    return tidy(name).casefold()


def below(path, roots):
    """A name as a path below a data folder's wav/, in one spelling but for
    case and ending; None where it leads out of the folders."""
    path = tidy(path)
    if posixpath.isabs(path):
        for absolute in (os.path.abspath, os.path.realpath):  # of links
            spelt = tidy(absolute(path))
            for root in roots:
                place = tidy(absolute(root)) + "/"
                if spelt.casefold().startswith(place.casefold()):
                    return spelt[len(place) :].removeprefix("wav/")
        return None
    if path.split("/")[0] == ".." or path[1:2] == ":":
        return None
    return path.removeprefix("wav/")


def _in_line(line_of, name):
    line = line_of and line_of(name)
    return f" in line {line}" if line else ""


def _stem(path):
    stem, ending = posixpath.splitext(path)
    return stem if ending.lower() in READABLE + TO_CONVERT else path


def _index(files, roots):
    """What all spellings share -> (spelling, file)."""
    index = defaultdict(list)
    for path in files:
        root = next(r for r in roots if path.startswith(os.path.join(r, "")))
        stem = _stem(tidy(os.path.relpath(path, root)).removeprefix("wav/"))
        index[stem.casefold()].append((stem, path))
    return index


def _choose(name, place, index, source):
    """Of the files that differ in case or ending alone, the nearest."""
    stem, ending = _stem(place), os.path.splitext(name)[1]
    alike = index.get(stem.casefold(), [])
    same = [found for found in alike if found[0] == stem] or alike
    spellings = sorted({spelling for spelling, _ in same})
    if len(spellings) > 1:
        raise UserError(
            f"{source}: {name} could be {spellings[0]} or {spellings[1]}"
        )
    same.sort(key=lambda found: not found[1].endswith(ending))
    return same[0][1] if same else None
