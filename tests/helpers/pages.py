"""The pages (README.md and docs/*.md): their blocks of code, and the code within their text."""

import re
import runpy
import sys
from unittest import mock

import tables
from commands import TOP

from alexnet_jax.cli import command

PAGES = tables.pages()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page):
    """Returns the page's path in the repository."""
    return str(page.relative_to(TOP))


def blocks(page):
    """Returns the (language, text) of each block between ``` and ```; "" is no language."""
    return FENCE.findall(page.read_text())


def commands_of(text):
    """Returns the command lines of a block: continued lines joined, comments removed."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def spans(page):
    """Returns what stands between ` and ` in the page's text, each in one line."""
    text = FENCE.sub("", page.read_text())
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def page_commands(page):
    """Returns the command lines of all blocks, then those in the text."""
    found = [x for language, text in blocks(page) if language == "bash" for x in commands_of(text)]
    return found + [x for x in spans(page) if re.match(r"(python|bash) ", x)]


def started(words):
    """Runs `python WORDS` up to command.run; returns its recorded call, and sys.argv by then."""
    with mock.patch.object(command, "run") as run, mock.patch.object(sys, "argv", list(words)):
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(TOP / words[0]), run_name="__main__")
        return run.call_args, sys.argv


def parsed(words):
    """Returns the flags of `python WORDS` as the command itself would parse them."""
    call, argv = started(words)
    return command.parse(argv, call.args[1], **call.kwargs)


def help_of(words):
    """Returns what `python WORDS --help` prints."""
    call, _ = started(words)
    return command.help_text(*call.args[1:], **call.kwargs)


def flag_names(words):
    """Returns the names of the flags of `python WORDS`."""
    return set(re.findall(r"^  --(\w+):", help_of(words), re.MULTILINE))


def examples(text, words):
    r"""Returns the command lines `python WORDS …` in a help text.

    One goes on in the next line after a \, or where that line begins with a flag; two spaces or a
    bracket end it.
    """
    joined = re.sub(r"( \\)?\n +(?=--\w)", " ", text.split("\nFlags:\n")[0])
    found = re.findall(rf"python {re.escape(words)}[^\n]*", joined)
    return [re.split(r"  |\s\(", line)[0] for line in found]
