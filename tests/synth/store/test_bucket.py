"""A store in a bucket of a real S3 server on this machine: what goes wrong there is told in a sentence."""

import os
import subprocess
import sys
import urllib.request

import pytest

from scans.errors import StoreError
from synth.store.opening import open_store
from tests.made.object_store import address, s3_url  # noqa: F401
from tests.made.stores import ROOT, grow, operations, summed


def failing(url):
    """Return the sentence of every way to meet a store; they must all be one sentence of a StoreError."""
    store = open_store(url)
    ways = [
        *operations(store, "a/c.0"),
        store.sizes,
        store.is_empty,
        lambda: store.size("a"),
        lambda: store.remove("a"),
    ]
    ways[6] = lambda: grow(store, "a/c.0", b"1").commit()
    said = []
    for way in ways:
        with pytest.raises(StoreError) as caught:
            way()
        said.append(str(caught.value))
    return said


@pytest.fixture
def fresh_s3(s3_url, monkeypatch):  # noqa: F811
    """Let a test change the environment: file systems remember what it was when they were made."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield monkeypatch
    monkeypatch.undo()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_that_is_not_there_is_told(s3_url, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert all("there is no such bucket; make it" in said for said in failing("s3://no-such-bucket/c.zarr"))
    assert list(tmp_path.iterdir()) == []  # nor does what could not be sent stay here


def test_missing_credentials_are_told(s3_url, fresh_s3):  # noqa: F811
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        fresh_s3.delenv(name)
    assert all("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and" in said for said in failing(s3_url))


def test_a_public_bucket_needs_no_credentials(s3_url):  # noqa: F811
    import s3fs

    open_store(s3_url).write("public/c.0", b"1")
    s3fs.S3FileSystem().chmod(f"{s3_url}/public/c.0", acl="public-read")
    environment = {name: value for name, value in os.environ.items() if "ACCESS_KEY" not in name}
    code = f"from synth.store.opening import open_store; assert open_store('{s3_url}/public').read('c.0') == b'1'"
    environment["FSSPEC_S3_ANON"] = "true"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_a_denied_right_is_told(s3_url, fresh_s3):  # noqa: F811
    def ask_for_rights_after(requests):
        kind = {"Content-Type": "text/plain"}
        url = f"{address()}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(url, str(requests).encode(), kind, method="POST")).close()

    ask_for_rights_after(0)
    try:
        assert all("permission denied" in said for said in failing(s3_url))
    finally:
        ask_for_rights_after("inf")


def test_a_server_that_does_not_answer_is_told(fresh_s3):
    fresh_s3.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fresh_s3.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match=r"s3://bucket/c.zarr: the server does not answer .* set AWS_ENDPOINT_URL"):
        open_store("s3://bucket/c.zarr").read("a")


def test_a_missing_package_is_told():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from scans.errors import StoreError\n"
        "from synth.store.opening import open_store\n"
        "try: open_store('s3://bucket/c.zarr')\n"
        "except StoreError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    assert said.stdout == "s3://bucket/c.zarr: the package for s3:// is missing; install layered-tumors[s3]\n"


@pytest.mark.parametrize("url", ["nosuch://bucket/c.zarr", "s3://", "a::b", "local:///c.zarr"])
def test_a_url_of_no_store_is_told(url):
    with pytest.raises(StoreError, match="give a folder, or a URL such as s3://bucket/corpus"):
        open_store(url)


def test_another_process_reaches_the_bucket_by_its_environment(s3_url):  # noqa: F811
    code = f"from synth.store.opening import open_store; open_store('{s3_url}/theirs').write('c.0', b'1')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert open_store(f"{s3_url}/theirs").sizes() == {"c.0": 1}


def test_a_large_file_is_sent_and_read_back(s3_url):  # noqa: F811
    store = open_store(f"{s3_url}/large")
    content = os.urandom(2**20) * 101  # enough to be sent, and fetched, in several pieces
    assert grow(store, "c.0", content).commit() == summed(content)
    assert store.read("c.0") == content


def test_folders_that_a_web_console_made_are_no_files(s3_url):  # noqa: F811
    import s3fs

    bucket = s3_url.removeprefix("s3://")
    for key in ("console/", "console/a/"):
        s3fs.S3FileSystem().call_s3("put_object", Bucket=bucket, Key=key, Body=b"")
    assert not open_store(f"{s3_url}/console").is_empty()
    assert open_store(f"{s3_url}/console/a").is_empty()
    assert open_store(f"{s3_url}/console").sizes() == {}
