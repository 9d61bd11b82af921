"""What the pages say exists: links, paths, names of the code, commands and their options."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = ("scans", "synth", "train")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples")

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?:scans|synth|train|tests|docs|benchmarks|examples|catalogs)/[\w./-]*")
_DOTTED = re.compile(r"(?:scans|synth|train)(?:\.\w+)+")
_PAGE = re.compile(r"\b(?:docs|scans|synth|train)/(?:[\w-]+/)*[\w-]+\.md\b")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page):
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page, *languages):
    return [body for _, language, body in _FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def anchors(page):
    """Return the anchors that GitHub gives a page's headings, numbered where two are alike."""
    found = []
    for heading in _HEADING.findall(prose(page)):
        shown = re.sub(r"\]\([^)]*\)", "", heading).lower().replace(" ", "-")
        anchor = re.sub(r"[^\w-]", "", shown)
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def exists(path):
    """Whether a path of the project is there; a module may be named without its suffix."""
    return (ROOT / path).exists() or (ROOT / f"{path}.py").is_file()


def names_in(file):
    """Return the names that a module defines or imports at its top."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        else:
            found.update(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
    return found


def defined(dotted):
    """Whether there is a module, or a name in a module, such as ``train.data.split.split_by_source``."""
    *module, name = dotted.split(".")
    inner = [ROOT.joinpath(*module, f"{name}.py"), ROOT.joinpath(*module, name, "__init__.py")]
    outer = [ROOT.joinpath(*module).with_suffix(".py"), ROOT.joinpath(*module, "__init__.py")]
    return any(file.is_file() for file in inner) or any(file.is_file() and name in names_in(file) for file in outer)


@every_page
def test_every_link_within_the_project_leads_to_a_file_and_a_heading_of_it(page):
    broken = []
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@every_page
def test_every_path_and_name_of_the_code_on_a_page_is_there(page):
    codes = _CODE.findall(prose(page))
    gone = [code for code in codes if _PATH.fullmatch(code) and not exists(code)]
    gone += [code for code in codes if _DOTTED.fullmatch(code) and not defined(code)]
    assert not gone


def test_every_page_that_code_sends_a_reader_to_is_there():
    files = [
        ROOT / "Makefile",
        *ROOT.glob("*.yaml"),
        *(file for name in FOLDERS for file in (ROOT / name).rglob("*.py")),
    ]
    told = {(file, page) for file in files for page in _PAGE.findall(file.read_text(encoding="utf-8"))}
    assert len(told) > 5
    assert not [(file.name, page) for file, page in told if not (ROOT / page).is_file()]


@every_page
def test_what_a_page_imports_can_be_imported(page):
    for body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES:
                for name in node.names:
                    assert defined(f"{node.module}.{name.name}"), f"{node.module}.{name.name}"


def commands():
    """Return (page, words) of each call of ``synth`` or ``train`` in blocks and sentences, continued lines joined."""
    for page in PAGES:
        for text in [*blocks(page, "", "bash"), *_CODE.findall(prose(page))]:
            for line in text.replace("\\\n", " ").splitlines():
                if re.match(r" *(torchrun .*-m train\.cli|synth|train) [a-z]", line):
                    line = re.sub(r"torchrun .*-m train\.cli", "train", line).rstrip("& ")
                    for command in line.split(" && "):
                        yield page, shlex.split(command, comments=True)


def test_every_command_on_a_page_takes_the_options_that_are_shown():
    import typer

    import synth.cli
    import train.cli

    faces = {"synth": synth.cli, "train": train.cli}
    known = {name: typer.main.get_command(face.app).commands for name, face in faces.items()}
    shown = list(commands())
    assert len(shown) > 40, "the pages' commands were not found"
    for page, (program, command, *words) in shown:
        told = f"{page.name}: {program} {command}"
        assert command in known[program], told
        options = {name for option in known[program][command].params for name in option.opts + option.secondary_opts}
        assert {word for word in words if re.match("-[-a-z]", word)} <= options | {"--help"}, told


def test_every_make_target_and_variable_on_a_page_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets, variables = (
        set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)),
        set(re.findall(r"\b[A-Z_]+\b", makefile)),
    )
    shown = []
    for page in PAGES:
        for text in [*blocks(page, "", "bash"), *_CODE.findall(prose(page))]:
            for line in re.findall(r"^ *make( .*)?$", text, re.MULTILINE):
                words = shlex.split(line, comments=True)
                shown += words
                named = {word.partition("=")[0] for word in words}
                assert {name for name in named if name.islower()} <= targets, f"{page.name}: make{line}"
                assert {name for name in named if name.isupper()} <= variables, f"{page.name}: make{line}"
    assert len(shown) > 40, "the pages' targets were not found"
