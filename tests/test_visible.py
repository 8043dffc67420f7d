"""Texts of users made visible: in lines, in texts, and in commands that bash reads back."""

import subprocess

import pytest

from pipeline.visible import shell_command, visible_line, visible_text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain [red]text[/red] :smile:", "plain [red]text[/red] :smile:"),
        ("naïve 名前\u3000🏳\ufe0f\u200d🌈", "naïve 名前\u3000🏳\ufe0f\u200d🌈"),
        ("\x1b[31mred\x9b31m", "\\x1b[31mred\\u009b31m"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "\\x1b]8;;http://x\\x07link\\x1b]8;;\\x1b\\"),
        ("a\r\nb\tc\x00\x7f\u2028", "a\\r\\nb\\tc\\x00\\x7f\\u2028"),
        ("gpj\u202e.exe\u2066", "gpj\\u202e.exe\\u2066"),
        ("caf\udce9 \ud800", "caf\\xe9 \\ud800"),
    ],
)
def test_control_characters_of_a_line_are_escaped(text: str, line: str) -> None:
    assert visible_line(text) == line


def test_a_text_keeps_tabs_line_breaks_and_its_direction() -> None:
    assert visible_text("a\tb\r\nc\u202ed\x1b[0m\r") == "a\tb\nc\u202ed\\x1b[0m\\r"


def test_bash_reads_a_command_back_as_it_was() -> None:
    words = ["printf", "%s|", "plain", "a b", "it's", "\x1b[31m\n\t'\\n\u202e\u009b é", "caf\udce9\n"]
    command = shell_command(words)
    assert "\n" not in command
    printed = subprocess.run(["bash", "-c", command], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert printed.decode("utf-8", "surrogateescape").split("|")[:-1] == words[2:]
