"""Help of the commands: each has an example that it accepts; shell completion."""

import shlex

import pytest
import typer

from hydrogate.pipeline import cli

GROUP = typer.main.get_command(cli.app)


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_each_command_has_an_example_that_it_takes(name: str) -> None:
    command = GROUP.commands[name]
    assert command.epilog.startswith(f"Example: hydrogate {name}")
    arguments = shlex.split(command.epilog)[3:]
    assert not command.make_parser(typer.Context(command, info_name=name)).parse_args(args=arguments)[1]


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("hydrogate ev", ["evaluate"]),
        ("hydrogate check --contr", ["--contract"]),
        ("hydrogate check --contract la", ["labels"]),
        ("hydrogate check --profile sm", ["small"]),
        ("hydrogate show --input", ["--input-format"]),
    ],
)
def test_the_shell_completes(
    line: str, completed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_HYDROGATE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit) as end:
        cli.app(prog_name="hydrogate")
    assert end.value.code == 0
    assert capsys.readouterr().out.split() == completed
