"""What a shell completes, and the examples below the help of each command."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer

from helpers.command import call
from moslens.cli.app import COMMANDS, EXAMPLES, EXTRA_OF, NEEDS, build_app


def complete(line: str, shell: str = "bash") -> str:
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-m", "moslens"],
        env=os.environ | {"_MOSLENS_COMPLETE": f"complete_{shell}"} | asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def test_commands_options_and_choices_are_completed() -> None:
    assert set(complete("moslens ").split()) >= set(COMMANDS)
    assert complete("moslens scor").split() == ["score"]
    assert complete("moslens score --so").split() == ["--sort"]
    assert complete("moslens score --sort s").split() == ["score"]
    assert '"--sort"' in complete("moslens score --so", "zsh")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *words: (shell, f"/bin/{shell}"))
    assert call("--show-completion") == 0
    assert "_MOSLENS_COMPLETE" in capsys.readouterr().out


def test_every_command_has_examples_of_options_that_it_has() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    for name, lines in EXAMPLES.items():
        known = typer.main.get_command(build_app(name)).commands[name]  # type: ignore[attr-defined]
        options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for line in lines:
            assert f"moslens {name}" in line
            words = shlex.split(line.rpartition("|")[2])
            used = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
            assert used <= options, line


def test_the_help_shows_examples_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("score", "--help") == 0
    shown = capsys.readouterr().out
    for line in EXAMPLES["score"]:
        assert f"  {line}\n" in shown


def test_output_is_o_everywhere() -> None:
    for name in COMMANDS:
        known = typer.main.get_command(build_app(name)).commands[name]  # type: ignore[attr-defined]
        for parameter in known.params:
            if "--output" in parameter.opts:
                assert "-o" in parameter.opts, name


def test_the_help_says_which_extra_a_command_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(NEEDS) <= set(COMMANDS)
    assert set(NEEDS.values()) <= set(EXTRA_OF.values())
    assert call("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, line in COMMANDS.items():
        assert (f"{line} Needs the extra {NEEDS[name]}." if name in NEEDS else line) in shown
    assert shown.count("Needs the extra") == len(NEEDS)
    for name in ("pick", "score"):
        assert call(name, "--help") == 0
        assert ("Needs the extra pick: pip install '.[pick]'" in capsys.readouterr().out) == (name == "pick")


@pytest.mark.parametrize("name", ["compare", "degrade", "average", "rate"])
def test_the_help_shows_the_arguments_once_repeated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "--help") == 0
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert "...]..." not in usage
    assert "...}..." not in usage
