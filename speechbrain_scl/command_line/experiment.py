"""Reading an experiment: a file, and what a command line changes in it."""

import dataclasses
import difflib
import os
import re

import yaml
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.utils.run_opts import RunOptions
from speechbrain_scl.command_line.console import silence_known_noise
from speechbrain_scl.command_line.options import check_values
from speechbrain_scl.errors import UserError


def read_experiment(arguments, default_file=None):
    """Reads the hyperparameter file that a command line names.

    Arguments
    ---------
    arguments : list of str
        ``[FILE.yaml] [--key=value ...]``: SpeechBrain's run options and
        overrides of the file's keys. A value may hold "=" (as URLs do).
    default_file : str or None
        The file where none is named.

    Returns
    -------
    hparams, run_opts, hparams_file, overrides
        What HyperPyYAML made of the file, SpeechBrain's run options, the file,
        and the overrides as YAML.

    Raises
    ------
    UserError
        A missing file, an override of a key that the file lacks, or a value
        that cannot be used.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tiny.yaml"
    >>> _ = path.write_text("list_url: none\\nscale: 30")
    >>> arguments = [str(path), "--list_url=https://a.b/?list=1"]
    >>> read_experiment(arguments)[0]
    {'list_url': 'https://a.b/?list=1', 'scale': 30}
    """
    silence_known_noise()
    arguments = list(arguments)
    if default_file and (not arguments or arguments[0].startswith("-")):
        arguments.insert(0, default_file)
    _check_form(arguments)
    hparams_file, run_opts, overrides = _parsed(arguments)
    if not os.path.isfile(hparams_file):
        raise UserError(f"{hparams_file}: there is no such file")
    _check_overrides(hparams_file, overrides)
    try:
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
    except Exception as error:
        # Whatever the parsers or the constructors it names raise, the file or
        # an override is at fault.
        check_values(_plain_values(overrides), hparams_file)
        raise UserError(f"{hparams_file}: {error}") from error
    check_values(hparams, hparams_file)
    return hparams, run_opts, hparams_file, overrides


def _parsed(arguments):
    """As SpeechBrain reads them, which splits overrides at every "="; here
    the first alone separates."""
    hidden = "\x00"
    options = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        # Of an option that is given twice, the last one counts.
        name = key if separator else len(options)
        options.pop(name, None)
        options[name] = key + separator + value.replace("=", hidden)
    file, run_opts, overrides = sb.parse_arguments(list(options.values()))
    return file, run_opts, overrides.replace(hidden, "=")


def _check_form(arguments):
    """Every word is an option, or the value of the one before it."""
    values = 0
    for argument in arguments[1:]:
        if argument.startswith("--"):
            name, given, _ = argument[2:].partition("=")
            default = getattr(RunOptions, name, "")
            many = name in ("jit_module_keys", "compile_module_keys")
            values = len(arguments) if many else int(default is not False)
            values = 0 if given else values
        elif values:
            values -= 1
        else:
            raise UserError(
                f"{argument}: not an option, nor the value of one; options "
                "are given as --key=value"
            )


def _check_overrides(hparams_file, overrides):
    """Every override names a key of the file."""
    with open(hparams_file, encoding="utf-8") as file:
        keys = _top_level_keys(file.read(), hparams_file)
    for key in _top_level_keys(overrides, "the command line"):
        if key not in keys:
            raise UserError(
                f"--{key}: neither a key of {hparams_file} nor an option of "
                f"SpeechBrain; {_nearest(key, keys)}"
            )
    for key, value in _plain_values(overrides).items():
        if re.search("<.+>", str(value)):
            raise UserError(
                f"--{key}={value}: HyperPyYAML takes <...> for a reference to "
                "another key; rename the path, or make a link to it"
            )
    for node in _nodes(yaml.compose(overrides)):
        if isinstance(node, yaml.MappingNode) and node.tag.startswith("!"):
            raise UserError(
                f"{node.tag} {{...}}: HyperPyYAML would give these arguments "
                "to the object that is there; name the class alone, give its "
                "arguments as a list, or change the file"
            )


def _nodes(node):
    """A YAML node and all within."""
    yield node
    if isinstance(node, yaml.CollectionNode):
        for part in node.value:
            for inner in part if isinstance(part, tuple) else (part,):
                yield from _nodes(inner)


def _nearest(key, keys):
    """What may have been meant."""
    options = [field.name for field in dataclasses.fields(RunOptions)]
    near = difflib.get_close_matches(key, [*keys, *options])
    if not near:
        return "none of their names is like it"
    return f"did you mean --{' or --'.join(near)}?"


def _top_level_keys(text, source):
    """The keys of a HyperPyYAML mapping, without making its objects."""
    try:
        node = yaml.compose(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {error}") from error
    if node is None:
        return []
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{source}: not a list of `key: value`: {text!r}")
    return [key.value for key, _ in node.value]


def _plain_values(overrides):
    """Key -> value of the overrides that are numbers or words."""
    loader = yaml.SafeLoader(overrides)
    node = loader.get_single_node()
    return {
        key.value: loader.construct_object(value)
        for key, value in (node.value if node else ())
        if isinstance(value, yaml.ScalarNode) and value.tag.startswith("tag:")
    }
