"""Every command and every Python block of README.md and docs/ works as it is written.

A page's blocks are run from its top to its end by the shell, in a folder that looks like a checkout
and holds what the pages assume: photos/ and the weight files of others. To be quick, the `python`
of that folder adds SHORT to every command with a --config. What cannot be run is in ONLY_PARSED, or
has a placeholder such as DIR in place of a value; its flags and settings are checked as the command
itself checks them.
"""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import foreign_nets
import pages
import pytest
import weight_files
from commands import ALL, TOP
from image_files import jpeg, picture, write_folder
from saved_runs import save_run

from alexnet_jax.runs import rules
from configs.base import get_config

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # by runpy

SHORT = "--config.train.steps=2 --config.model.width=0.0625 --config.data.batch_size=16"
ONLY_PARSED = {
    "python -m alexnet_jax.prepare --name=cifar10": "downloads the data",
    "python launch/evidence.py": "takes days",
    "python launch/tables.py": "tests/test_pages.py has the same tables made",
    "python launch/tables.py --write": "tests/test_pages.py has the same tables made",
    "python -m alexnet_jax.figures --kernels=results/tiny_imagenet": "tests/figures draws such",
    "python -m alexnet_jax.figures --plateau=results/plateau,results/printed": "so it does these",
    "python -m alexnet_jax.plan --table=gtx580": "tests/plan prints the same",
}
# What the text says of a block's names that the block itself does not define.
ASSUMED = {"README.md": "import numpy as np\npixels = np.full((2, 64, 64, 3), 128, np.float32)\n"}
# Trains the net that other pages have from README.md.
TRAIN = "python -m alexnet_jax.main --config=configs/base.py --workdir=runs/digits"
PYTHON = """#!/bin/sh
case "$*" in
  *--config=*) exec {python} "$@" {short} ;;
  *) exec {python} "$@" ;;
esac
"""

COMMANDS = list(dict.fromkeys(itertools.chain.from_iterable(map(pages.page_commands, pages.PAGES))))
README = TOP / "README.md"
NNX = TOP / "docs" / "nnx.md"
# These have tests of their own; that of finetuning.md is tests/commands/test_folder_recipes.py.
ELSEWHERE = (NNX, TOP / "docs" / "finetuning.md")
RUN = [page for page in pages.PAGES if pages.blocks(page) and page not in ELSEWHERE]
# README.md shows some commands of other pages. They are run there.
IN_DOCS = {line for page in RUN if page != README for line in pages.page_commands(page)}
KEYS = {key for key, _ in rules.flat(get_config())}

SECTIONS = {part for key in KEYS for part in key.split(".")[:-1]}


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the repository's, with what the pages assume, and no run."""
    for linked in ("alexnet_jax", "configs", "docs", "results"):
        (tmp_path / linked).symlink_to(TOP / linked)
    # A script that is called by a link works in the checkout that the link leads to.
    shutil.copytree(TOP / "launch", tmp_path / "launch")
    for copied in ("pyproject.toml", "requirements.txt", "tests/requirements.txt"):
        (tmp_path / copied).parent.mkdir(exist_ok=True)
        shutil.copy(TOP / copied, tmp_path / copied)
    (tmp_path / "tests/test_threads.py").symlink_to(TOP / "tests/data/test_threads.py")
    make_venv(tmp_path)
    photos = {
        name: {f"{i}.jpg": jpeg(picture(120, 90 + i, 30 * kind + i)) for i in range(30)}
        for kind, name in enumerate(("cats", "dogs"))
    }
    write_folder(tmp_path, {"photos": photos})
    (tmp_path / "bvlc_alexnet.caffemodel").write_bytes(weight_files.caffemodel(foreign_nets.BLOBS))
    (tmp_path / "alexnet.pth").write_bytes(weight_files.pth(foreign_nets.STATE))
    return tmp_path


def make_venv(folder):
    """Makes a .venv that launch/environment.sh takes for an installed one."""
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(PYTHON.format(python=sys.executable, short=SHORT))
    (programs / "python").chmod(0o755)
    (programs / "ruff").symlink_to(shutil.which("ruff") or Path(sys.executable).with_name("ruff"))
    files = "requirements.txt tests/requirements.txt"
    sums = shell(f"cat pyproject.toml {files} | cksum", folder).strip()
    (folder / ".venv/installed").write_text("".join(f"{x} {sums}\n" for x in files.split()))


def shell(line, folder):
    """Runs a command line in the folder, with its .venv active; returns what it printed."""
    active = f"export PATH={folder}/.venv/bin:$PATH PYTHONPATH={TOP}\n"
    done = subprocess.run(
        ["bash", "-c", active + line], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{line}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=pages.name)
def test_the_blocks_of_a_page_run_from_top_to_end(page, checkout):
    if "runs/digits" in page.read_text() and TRAIN not in pages.page_commands(page):
        shell(TRAIN, checkout)
    for language, text in pages.blocks(page):
        if language == "python":
            (checkout / "block.py").write_text(ASSUMED.get(pages.name(page), "") + text)
            shell("python block.py", checkout)
        for line in pages.commands_of(text) if language == "bash" else ():
            if page != README or line not in IN_DOCS:
                shell(line, checkout)


@pytest.mark.slow
def test_the_net_of_the_nnx_recipe_is_the_trained_one(checkout):
    shell(TRAIN, checkout)
    ((_, recipe),) = pages.blocks(NNX)
    before, step, after = recipe.partition("print(step(net, optimizer, images, labels))\n")
    same = "assert jnp.array_equal(net(images)[0], model.apply(variables, images)[0])\n"
    changed = "assert not jnp.array_equal(logits, model.apply(variables, images)[0])\n"
    (checkout / "recipe.py").write_text(before + same + step + after + changed)
    shell("python recipe.py", checkout)


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_code_of_a_page_is_marked_as_such(page):
    """Else it would not be found: blocks are bash or python, or a drawing without a language."""
    for language, text in pages.blocks(page):
        assert language in ("bash", "python", "")
        assert language or not re.search(r"^\s*(python|bash|pip|import|from) ", text, re.MULTILINE)


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("python ")])
def test_the_flags_of_a_command_are_flags_that_it_has(line, tmp_path, monkeypatch):
    """Where the runs that it names exist: they bring their config to a command without one."""
    (tmp_path / "configs").symlink_to(TOP / "configs")
    config = get_config()
    config.model.num_classes = 10
    for run in set(re.findall(r"runs/\w+", line)):
        save_run(tmp_path / run, config)
    monkeypatch.chdir(tmp_path)
    values = pages.parsed(shlex.split(line)[1:])
    if "config" in values:
        rules.check(values.config)


def test_a_command_in_the_text_is_in_a_block_too_or_has_a_reason_not_to_be_run():
    run = {
        line
        for page in pages.PAGES
        for language, text in pages.blocks(page)
        if language == "bash"
        for line in pages.commands_of(text)
    }
    advice = "put the command into a block of the page, or into ONLY_PARSED with the reason"
    left = [x for x in COMMANDS if not (x in run or x in ONLY_PARSED or re.search("=[A-Z]", x))]
    assert left == [], advice
    assert [x for x in ONLY_PARSED if x not in COMMANDS] == [], "no page has these any more"


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
def test_flags_and_settings_in_the_text_exist(page):
    known = {"help"} | {name for words in ALL for name in pages.flag_names(words)}
    for span in pages.spans(page):
        if span.startswith("XLA_FLAGS="):
            continue  # XLA's own
        for flag in re.findall(r"(?<![\w-])--(\w+(?:\.\w+)*)", span):
            key = flag.removeprefix("config.")
            assert key in KEYS if key != flag else flag in known, span
        setting = re.fullmatch(r"(?:config\.)?((?:\w+\.)+\w+)(?:=.*)?", span)
        if setting and setting[1].split(".")[0] in SECTIONS and not is_file(setting[1]):
            assert any(f".{x}".endswith(f".{setting[1]}") for x in KEYS), span


def is_file(text):
    """True if a text such as eval.json is the name of a file."""
    return text.rpartition(".")[2] in ("json", "jsonl", "npz", "py", "safetensors")


@pytest.mark.parametrize("words", ALL, ids=lambda words: words[-1])
def test_help_fits_a_terminal_of_80_columns(words):
    assert [line for line in pages.help_of(words).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", ALL, ids=lambda words: words[-1])
def test_help_has_an_example_whose_flags_exist(words, monkeypatch):
    monkeypatch.chdir(TOP)
    examples = pages.examples(pages.help_of(words), " ".join(words))
    assert examples
    for example in examples:
        pages.parsed(shlex.split(example)[1:])
