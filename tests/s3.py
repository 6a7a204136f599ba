"""An S3 server on this machine's loopback, for a module's tests."""

from collections import Counter
from contextlib import contextmanager

BUCKET = "features"
SETTINGS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip


@contextmanager
def s3_server(monkeypatch):
    """Start a server with one bucket, and let every client of this process and its children find it."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=BUCKET)
    try:
        yield client
    finally:
        client.close()
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def counted_requests(monkeypatch):
    """The requests that s3fs makes meanwhile, by their kind."""
    import s3fs

    counts, plain = Counter(), s3fs.S3FileSystem._call_s3

    async def counting(system, method, *arguments, **named):
        counts[method] += 1
        return await plain(system, method, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_call_s3", counting)
        yield counts


def objects(client, prefix):
    """Name → bytes of every object under the prefix."""
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    read = lambda key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read()  # noqa: E731
    return {item["Key"].removeprefix(prefix): read(item["Key"]) for item in found}
