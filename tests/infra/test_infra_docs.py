"""What README, CONTRIBUTING and docs/ show is there: commands, recipes, links, files, sections of the method."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from a2v_experiments import cli
from a2v_experiments.recipe.files import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(ROOT.glob("docs/*.md"))]
SHOWN = [page for page in PAGES if page.name != "log.md"]  # the log has commands of its day
PROVENANCE = sorted(ROOT.glob("tests/*/goldens/README.md"))
SOURCES = [path for folder in ("packages", "experiments", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
CONTINUED, COMMENT = re.compile(r"\\\n\s*"), re.compile(r"\s#\s.*")


def blocks(page: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Commands of `a2v`, and whether they are whole: those in a block are, those within a sentence need not be."""
    for block in blocks(page):
        for line in CONTINUED.sub(" ", block).splitlines():
            if found := re.match(r"(?:\$ )?(?:\.venv/bin/)?a2v (.+)", line):
                yield COMMENT.sub("", found[1]), True
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", prose):
        if found := re.match(r"(?:\.venv/bin/)?a2v ([a-z].*)", " ".join(code.split())):
            yield found[1], False


def parse(line: str, whole: bool) -> str | None:
    """What is wrong with a command's words; placeholders in capitals stand for any value."""
    words = [word for word in shlex.split(line) if word != "..."]
    command: Any = typer.main.get_command(cli.app)
    path = "a2v"
    while hasattr(command, "commands") and words:
        if words[0] not in command.commands and (usual := getattr(command, "default_command", None)):
            words.insert(0, usual)  # `a2v review CALLS`
        path = f"{path} {words[0]}"
        if words[0] not in command.commands:
            return f"{path}: no such command"
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands"):
        return f"{path}: a group" if whole else None
    context = command.context_class(command, info_name=path)
    try:
        values, left, _ = command.make_parser(context).parse_args(words)
    except Exception as error:  # click's, which typer brings as its own
        told = getattr(error, "format_message", error.__str__)()
        # within a sentence an option may be named without its value
        return None if not whole and "requires an argument" in told else f"{path}: {told}"
    missing = [p.name for p in command.params if p.required and not values.get(p.name or "")]
    if whole and missing:
        return f"{path}: {missing} missing"
    return f"{path}: {left} is too much" if left else None


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_commands_are_as_shown(page: Path) -> None:
    assert [wrong for line, whole in commands(page) if (wrong := parse(line, whole))] == []


def test_wrong_commands_would_be_found() -> None:
    assert parse("experiment rnu many_calls", True) == "a2v experiment rnu: no such command"
    assert "No such option: --tresholds" in (parse("predict a.wav --model m --out o --tresholds x", True) or "")
    assert parse("predict a.wav --model m", True) == "a2v predict: ['out'] missing"
    assert parse("ui now", True) == "a2v ui: ['now'] is too much"
    lines = dict(commands(ROOT / "README.md"))
    assert sum(lines.values()) >= 6


def test_recipes_are_as_shown(tmp_path: Path) -> None:
    shown = [(page, text) for page in SHOWN for text in blocks(page, "yaml")]
    assert len(shown) >= 2
    for number, (page, text) in enumerate(shown):
        path = tmp_path / f"shown{number}.yaml"
        path.write_text(text, encoding="utf-8")
        for name in yaml.safe_load(text).get("plugins", []):  # the code that its page shows
            code = next(block for block in blocks(page, "python") if "@register_" in block)
            (tmp_path / name).write_text(code, encoding="utf-8")
        assert load_recipe(str(path), [f"data.source={tmp_path}"]).name == yaml.safe_load(text)["name"]


def slug(heading: str) -> str:
    """The anchor of a heading, as the site and GitHub make it from letters, digits and spaces."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if page.parent.name == "docs":
            assert file.resolve().is_relative_to(ROOT / "docs"), f"{target}: the site has docs/ only"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), target


@pytest.mark.parametrize("page", [page for page in SHOWN if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    """Files of this repository in code spans, by their whole path."""
    for name in re.findall(r"`((?:packages|experiments|tests|infra|docs)/[^`\s*]+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


def test_sections_of_the_method_that_comments_mean_are_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (\d)\. (.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert sorted(parts) == list("123456789")
    meant: set[str] = set()
    for path in SOURCES:
        for found in re.findall(r"\b[Ss]pec(?: sections?)? (\d[\d., -]*(?:(?:and|to) [\d.]+)?)", path.read_text()):
            meant |= set(re.findall(r"\d(?:\.\d)?", found))
    assert {"2", "5", "8", "8.3", "9"} <= meant
    for section, _, step in (number.partition(".") for number in meant):
        assert section in parts
        assert not step or re.search(rf"^{step}\. ", parts[section], re.MULTILINE), f"{section}.{step}"


def test_readme_is_short_and_has_the_two_commands_and_a_figure() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 8 * 1024
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE))
    assert {"quickstart", "test", "docs"} <= named <= set(targets)
    assert re.search(r"!\[[^\]]+\]\(docs/figures/[^)]+\)", text)


def test_every_golden_has_its_provenance() -> None:
    assert len(PROVENANCE) == 3
    for readme in PROVENANCE:
        text = readme.read_text(encoding="utf-8")
        told = [re.escape(name).replace(r"\*", ".*") for name in re.findall(r"`([^`\s]+)`", text)]
        short = {f"g3_student_{n}" for n in "012"}
        for path in readme.parent.iterdir():
            if path == readme or path.name == "__pycache__":
                continue
            name = path.name + "/" * path.is_dir()
            known = any(re.fullmatch(pattern, text) for pattern in told for text in (name, path.stem))
            assert known or path.stem in short, path


def test_no_page_names_a_place_of_some_machine() -> None:
    places = re.compile(r"(?<![\w.])/(?:work|home|root|tmp|mnt|opt/pypi)/\w")
    for path in (*PAGES, *PROVENANCE, ROOT / "mkdocs.yml", ROOT / "docs" / "requirements.txt"):
        assert not places.search(path.read_text(encoding="utf-8")), path
    assert "://" not in (ROOT / "docs" / "requirements.txt").read_text()
