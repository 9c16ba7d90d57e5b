"""Archives and prefixes of an S3 server, by way of the real store."""

import os

import boto3
import pytest
from fakes.packed import member, tar_bytes
from moto.server import ThreadedMotoServer

from hostler.core import Code, HostlerError, SystemClock
from hostler.repository import ArchivePrefix, Config, Container, Fetcher, ModelSource
from hostler.storage import Config as StorageConfig
from hostler.storage import Storage

MIB = 1 << 20
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@pytest.fixture(scope="module")
def server():
    running = ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(server):
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1", **KEYS)
    client.create_bucket(Bucket="models")
    yield client
    for found in client.list_objects_v2(Bucket="models").get("Contents", []):
        client.delete_object(Bucket="models", Key=found["Key"])
    client.close()


@pytest.fixture
async def fetcher(server, tmp_path):
    settings = StorageConfig(
        s3_endpoint_url=server, s3_access_key_id="testing", s3_secret_access_key="testing"
    )
    storage = Storage(settings, {})
    config = Config(archive_cache_dir=str(tmp_path / "cache"), fetch_pause_s=0.05)
    fetching = Fetcher(config, storage, SystemClock())
    yield fetching
    await fetching.close()
    await storage.close()


def put(s3, key, body):
    s3.put_object(Bucket="models", Key=key, Body=body)


async def test_an_archive_and_its_replacement(s3, fetcher):
    source = ModelSource("s3://models/a/model.tar.gz")
    put(s3, "a/model.tar.gz", tar_bytes(member("./model.onnx", content=b"old")))
    old = await fetcher.fetch(source, lambda _: None)
    assert old.token == await fetcher.token(source)
    put(s3, "a/model.tar.gz", tar_bytes(member("./model.onnx", content=b"new")))
    assert old.token != await fetcher.token(source)
    new = await fetcher.fetch(source, lambda _: None)
    assert (old.folder / "model.onnx").read_bytes() == b"old"
    assert (new.folder / "model.onnx").read_bytes() == b"new"


async def test_an_object_in_many_parts(s3, fetcher):
    body = tar_bytes(member("model.bin", content=os.urandom(12 * MIB)), mode="w")
    upload = s3.create_multipart_upload(Bucket="models", Key="b.tar")["UploadId"]
    parts = []
    for number, at in enumerate(range(0, len(body), 6 * MIB), 1):
        sent = s3.upload_part(
            Bucket="models",
            Key="b.tar",
            PartNumber=number,
            UploadId=upload,
            Body=body[at : at + 6 * MIB],
        )
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    s3.complete_multipart_upload(
        Bucket="models", Key="b.tar", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    lines = []
    fetched = await fetcher.fetch(ModelSource("s3://models/b.tar"), lines.append)
    assert "-" in fetched.token, "such an ETag is no MD5"
    assert fetched.size_bytes == 12 * MIB
    assert lines[1] == "downloading s3://models/b.tar: 0 of 12 MiB"


async def test_a_prefix_of_files(s3, fetcher):
    files = {f"{i}/model.bin": os.urandom(1000 + i) for i in range(30)}
    put(s3, "net/", b"")
    put(s3, "network/other", b"no")
    for name, body in files.items():
        put(s3, f"net/{name}", body)
    source = ModelSource("s3://models/net/", prefix=True, compressed=False)
    fetched = await fetcher.fetch(source, lambda _: None)
    found = {
        str(path.relative_to(fetched.folder)): path.read_bytes()
        for path in fetched.folder.rglob("*")
        if path.is_file()
    }
    assert found == files
    assert fetched.token == await fetcher.token(source)


async def test_the_archives_of_a_multi_model_container(s3, fetcher):
    put(s3, "mme/team a/m+1.tar.gz", tar_bytes(member("model.onnx", content=b"m")))
    archives = ArchivePrefix(fetcher, "s3://models/mme/", Container(), 1, Config())
    opened = await archives.open("team a/m+1.tar.gz", "endpoint/e/1/v/0/m")
    assert opened.entry == "endpoint/e/1/v/0/m"
    assert opened.token == await archives.token("team a/m+1.tar.gz")
    opened.release()
    with pytest.raises(HostlerError) as raised:
        await archives.open("none.tar.gz", "e")
    assert raised.value.code is Code.NOT_FOUND


async def test_a_bucket_that_is_not_there(s3, fetcher):
    with pytest.raises(HostlerError) as raised:
        await fetcher.fetch(ModelSource("s3://nobodys-bucket/a.tar.gz"), lambda _: None)
    assert raised.value.code is Code.NOT_FOUND
