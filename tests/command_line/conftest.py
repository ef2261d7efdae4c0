"""What a command says, and what it refuses."""

import pytest

from speechbrain_scl.command_line.main import main


@pytest.fixture
def run(capsys):
    """Runs a command; its output and what it says beside."""

    def run(*arguments, status=0):
        capsys.readouterr()
        assert main([*map(str, arguments)]) == status
        return capsys.readouterr()

    return run


@pytest.fixture
def say(run):
    """A command's output."""
    return lambda *arguments, status=0: run(*arguments, status=status).out


@pytest.fixture
def refused(capsys):
    """What an error says."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        assert ended.value.code == 2
        _, error, said = capsys.readouterr().err.rpartition("error: ")
        return error + said.removesuffix("\n")

    return run
