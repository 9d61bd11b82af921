"""What cannot be written is told with its folder and what to do, by every command that has an --out."""

import errno
import os
from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import synth.cli
import train.cli
from scans.errors import StoreError, UserError
from scans.terminal import CommandLine, command_line
from scans.writing import WriteError, concerns, make_folder, why_not_written, writing

CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, "no space is left where {folder} lies; free some"),
        (errno.EROFS, "{folder} lies on a read-only file system; choose another place"),
        (errno.EACCES, "you may not write in {folder}; ask who owns it"),
        (errno.ENOENT, "there is no folder {folder}/new; make it"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EIO, "cannot be written (Input/output error)"),
    ],
)
def test_each_reason_names_the_folder_and_what_to_do(tmp_path, code, told):
    path = tmp_path / "new" / "out"
    said = why_not_written(path, OSError(code, os.strerror(code)))
    assert told.format(folder=tmp_path) in said
    assert said.startswith(str(path))
    assert "\n" not in said


def test_a_file_where_a_folder_must_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a" / "b", tmp_path / "file"):
        with pytest.raises(WriteError, match=f"{tmp_path}/file is a file and no folder"):
            make_folder(path)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(WriteError, match=f"{tmp_path}/link is a link that leads nowhere"):
        make_folder(tmp_path / "link" / "a")
    with (
        pytest.raises(StoreError, match="is a folder, and a file is to be written there"),
        writing(tmp_path, StoreError),
    ):
        tmp_path.open("wb")


@given(st.sampled_from(CODES), st.sampled_from(["out", "out/a/b", ".", ".out.abc.tmp", "other", "outer/a", "..", ""]))
def test_an_error_of_another_file_is_not_told_of_the_target(code, file):
    target = Path("/data/out")
    error = OSError(code, os.strerror(code), f"/data/{file}") if file else OSError(code, os.strerror(code))
    of_writing_alone = code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    assert concerns(target, error) == (file not in ("other", "outer/a") if file else of_writing_alone)


def options_of(app):
    """Return the commands of an application by name, and how each is called, as click knows them."""
    return typer.main.get_command(app).commands


EVERY = [
    (name, command)
    for app in (synth.cli.app, train.cli.app)
    for name, command in options_of(app).items()
    if any("--out" in option.opts for option in command.params)
]


def test_every_command_with_an_out_is_known():
    assert {name for name, _ in EVERY} == {
        *(
            "prepare",
            "generate",
            "stats",
            "show",
            "export",
            "convert",
            "merge",
            "subset",
            "pack",
            "unpack",
            "rehydrate",
        ),
        *("folds", "segment", "pseudo-label", "evaluate", "table", "pretrain", "adapt", "finetune"),
    }


def app_that(raises: OSError) -> CommandLine:
    app = command_line("Test.")

    @app.command()
    def make(target: Annotated[str, typer.Option("--out")]) -> None:
        raise raises

    return app


def test_what_cannot_be_read_and_urls_stay_as_they_are(tmp_path):
    missing = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "scan.nii"))
    for error, target in ((missing, tmp_path / "out"), (OSError(errno.ENOSPC, "full"), "s3://bucket/corpus.zarr")):
        result = CliRunner().invoke(app_that(error), ["make", "--out", str(target)])
        assert result.exception is error


@pytest.mark.parametrize("code", CODES[:-1])
def test_a_command_that_cannot_write_its_out_says_so(tmp_path, code):
    target = tmp_path / "out"
    result = CliRunner().invoke(
        app_that(OSError(code, os.strerror(code), str(tmp_path / ".out.abc.tmp"))), ["make", "--out", str(target)]
    )
    assert isinstance(result.exception, WriteError)
    assert str(result.exception).startswith(f"--out {target}: ")


@pytest.mark.parametrize(
    "command",
    [
        *(["generate", "--sources", "SOURCES", "-n", "2", "--workers", "0"], ["show", "CORPUS"], ["export", "CORPUS"]),
        *(["export", "CORPUS", "--format", "nnunet"], ["convert", "CORPUS", "--layout", "dense", "--workers", "0"]),
        *(["subset", "CORPUS", "--first", "2", "--workers", "0"], ["stats", "--sources", "SOURCES", "-n", "2"]),
    ],
    ids=" ".join,
)
def test_a_file_in_the_way_of_an_out_is_named(sources_path, corpus_path, tmp_path, command):
    (tmp_path / "file").touch()
    given = {"SOURCES": str(sources_path), "CORPUS": str(corpus_path)}
    arguments = [*(given.get(word, word) for word in command), "--out", str(tmp_path / "file" / "x")]
    result = CliRunner().invoke(synth.cli.app, arguments)
    assert isinstance(result.exception, UserError), result.exception
    assert f"{tmp_path}/file is a file and no folder" in str(result.exception)
