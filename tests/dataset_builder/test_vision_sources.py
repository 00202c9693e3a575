"""What others wrote is checked, bounded and counted, and never leads anywhere private."""

import http.server
import io
import json
import os
import socket
import threading
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_builder.vision import fetch, images, sources
from dataset_builder.vision.images import Rejected, checked_image
from dataset_builder.vision.sources import open_source, row_text
from pipeline.errors import UserError
from pipeline.settings import VisionCorpus


def encoded(width: int = 40, height: int = 30, mode: str = "RGB", format: str = "PNG", **options):
    shape = (height, width, len(mode)) if mode != "L" else (height, width)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# Images


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_plain_image_is_kept_byte_for_byte(format):
    data = encoded(format=format)
    assert checked_image(data, 224) == data


def test_a_large_image_is_reduced_on_its_shorter_side():
    image = opened(checked_image(encoded(300, 450, format="JPEG"), 100))
    assert image.size == (100, 150)
    assert image.format == "JPEG"


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "PNG"), ("L", "JPEG"), ("RGB", "WEBP")])
def test_other_kinds_become_plain_rgb(mode, format):
    image = opened(checked_image(encoded(mode=mode, format=format), 224))
    assert image.mode == "RGB"
    assert image.size == (40, 30)
    assert image.format in ("PNG", "JPEG")


def test_a_turned_photograph_is_set_upright_and_loses_its_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    exif[0x013B] = "the photographer"
    image = opened(checked_image(encoded(format="JPEG", exif=exif), 224))
    assert image.size == (30, 40)
    assert not image.getexif()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>not found</html>", "not an image"),
        (encoded()[:-400], "not an image"),
        (encoded(8, 40), "too small"),
        (encoded(20, 400), "too elongated"),
        (b"\0" * (images.MAX_BYTES + 1), "too many bytes"),
    ],
)
def test_unusable_images_are_refused_with_a_reason(data, reason):
    with pytest.raises(Rejected, match=reason):
        checked_image(data, 224)


def test_a_bomb_is_refused_before_it_unpacks(monkeypatch):
    bomb = encoded(40, 30)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was unpacked"))
    with pytest.raises(Rejected, match="too many pixels"):
        checked_image(bomb, 224)


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(images.FORMATS),
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5),
    length=st.integers(0, 5000),
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_images_are_images_or_refused(format, changes, length):
    data = bytearray(encoded(format=format)[:length])
    for place, value in changes:
        if place < len(data):
            data[place] = value
    try:
        result = checked_image(bytes(data), 64)
    except Rejected:
        return
    opened(result).convert("RGB").load()


# Texts


def test_a_question_takes_its_commonest_answer():
    row = {"question": "What  is\nit?", "answers": ["cat", {"answer": "dog"}, {"answer": "dog"}]}
    assert row_text(row) == ("question: What is it? answer: dog", "question")
    assert row_text({"question": "What?", "answer": "a cat"})[0].endswith("answer: a cat")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no text"),
        ({"text": " \n"}, "no text"),
        ({"text": 3}, "no text"),
        ({"text": "x" * 5000}, "text too long"),
        ({"question": "Why?"}, "no answer"),
        ({"question": "Why?", "answers": [None, ""]}, "no answer"),
        ({"question": ["Why?"], "answers": ["so"]}, "no question"),
    ],
)
def test_unusable_texts_are_refused_with_a_reason(row, reason):
    with pytest.raises(Rejected, match=reason):
        row_text(row)


JSON = st.recursive(
    st.none() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["answer", "x"]), inner),
)


@given(answers=JSON, question=st.text(st.characters()))
def test_any_row_gives_clean_text_or_is_refused(answers, question):
    try:
        text, _ = row_text({"question": question, "answers": answers})
    except Rejected:
        return
    assert text == " ".join(text.split())
    assert not set(text) & set(map(chr, range(32)))
    text.encode()


# Folders


def folder_source(folder, lines, **options):
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf8")
    corpus = VisionCorpus(name="mine", source=f"files:{folder}", train=90, test=10, **options)
    return open_source(corpus, 0)


def only_example(folder, line):
    source = folder_source(folder, [line if isinstance(line, str) else json.dumps(line)])
    return source.example("train", 0)


def test_a_folder_gives_images_with_their_texts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cat.png").write_bytes(encoded())
    example = only_example(tmp_path, {"file": "a/cat.png", "text": "A cat."})
    assert example.image == encoded()
    assert example.text == "A cat."


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "a/../../secret.png", "link.png"]
)
def test_no_path_leads_out_of_the_folder(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes(encoded())
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(Rejected, match="outside the folder"):
        only_example(inside, {"file": name, "text": "A secret."})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "line is not JSON"),
        ("[1]", "line names no file"),
        ({"text": "A cat."}, "line names no file"),
        ({"file": "missing.png", "text": "A cat."}, "no such file"),
        ({"file": ".", "text": "A cat."}, "no such file"),
        ({"file": "pipe", "text": "A cat."}, "no such file"),
        ({"file": "bad\0name.png", "text": "A cat."}, "unreadable file"),
        ({"file": "text.png", "text": "A cat."}, "not an image"),
    ],
)
def test_unusable_lines_are_refused_with_a_reason(tmp_path, line, reason):
    (tmp_path / "text.png").write_text("not a picture")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Rejected, match=reason):
        only_example(tmp_path, line)


def test_a_folder_without_captions_is_one_line(tmp_path):
    corpus = VisionCorpus(name="mine", source=f"files:{tmp_path}", train=9, test=1)
    with pytest.raises(UserError, match=r"captions\.jsonl"):
        open_source(corpus, 0)


def test_the_lines_are_divided_without_overlap(tmp_path):
    source = folder_source(tmp_path, [json.dumps({"file": str(k)}) for k in range(50)])
    train, test = source.order["train"], source.order["test"]
    assert source.size("test") == 5
    assert sorted([*train, *test]) == list(range(50))


# The network


class Server(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[str]] = []
    picture = encoded()

    def do_GET(self):
        self.seen.append(self.path)
        name = self.path.strip("/")
        if name == "picture":
            self.answer(200, self.picture)
        elif name == "busy-once":
            first = self.seen.count(self.path) == 1
            self.answer(503 if first else 200, b"" if first else self.picture)
        elif name == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "999")
            self.end_headers()
            self.wfile.write(b"too little")
        elif name == "slow":
            self.server.released.wait(5)
        elif name.startswith("to-"):
            self.send_response(302)
            self.send_header("Location", self.server.targets[name])
            self.end_headers()
        else:
            self.answer(404, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(autouse=True)
def no_delays(monkeypatch):
    monkeypatch.setattr(fetch, "RETRY_DELAYS", (0.0, 0.0))


@pytest.fixture
def server():
    Server.seen.clear()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.released = threading.Event()
    running.targets = {}
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def loopback_is_public(monkeypatch):
    monkeypatch.setattr(fetch, "is_public", lambda address: True)


@pytest.mark.usefixtures("loopback_is_public")
class TestFetching:
    def test_bytes_come_back(self, server):
        assert fetch.fetch(f"{server.url}/picture") == Server.picture

    def test_a_busy_server_is_asked_again(self, server):
        assert fetch.fetch(f"{server.url}/busy-once") == Server.picture
        assert len(Server.seen) == 2

    @pytest.mark.parametrize(
        ("name", "reason", "requests"), [("missing", "http 404", 1), ("cut", "unreachable", 3)]
    )
    def test_failures_have_a_reason(self, server, name, reason, requests):
        with pytest.raises(Rejected, match=reason):
            fetch.fetch(f"{server.url}/{name}")
        assert len(Server.seen) == requests

    def test_a_silent_server_times_out(self, server, monkeypatch):
        monkeypatch.setattr(fetch, "TIMEOUT", 0.1)
        with pytest.raises(Rejected, match="timeout"):
            fetch.fetch(f"{server.url}/slow")

    def test_too_many_bytes_are_not_read(self, server, monkeypatch):
        monkeypatch.setattr(fetch, "MAX_BYTES", 100)
        with pytest.raises(Rejected, match="too many bytes"):
            fetch.fetch(f"{server.url}/picture")

    @pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/picture"])
    def test_a_redirect_leads_to_the_web_or_nowhere(self, server, target):
        server.targets["to-elsewhere"] = target
        with pytest.raises(Rejected):
            fetch.fetch(f"{server.url}/to-elsewhere")

    def test_a_redirect_is_followed(self, server):
        server.targets["to-picture"] = f"{server.url}/picture"
        assert fetch.fetch(f"{server.url}/to-picture") == Server.picture

    def test_nobody_listens(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(Rejected, match="unreachable"):
            fetch.fetch(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001"]
)
def test_private_addresses_are_never_asked(server, host):
    with pytest.raises(Rejected, match="private address"):
        fetch.fetch(f"http://{host}:{server.server_port}/picture")
    assert Server.seen == []


def test_a_redirect_to_a_private_address_is_not_followed(server, monkeypatch):
    strict = fetch.is_public
    asked = iter([True])
    monkeypatch.setattr(fetch, "is_public", lambda ip: next(asked, False) or strict(ip))
    server.targets["to-private"] = f"{server.url}/picture"
    with pytest.raises(Rejected, match="private address"):
        fetch.fetch(f"{server.url}/to-private")
    assert Server.seen == ["/to-private"]


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1"]
    + ["fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "224.0.0.1", "255.255.255.255"],
)
def test_private_address_ranges(address):
    assert not fetch.is_public(address)


def test_public_addresses():
    assert fetch.is_public("93.184.216.34")
    assert fetch.is_public("2606:2800:220:1::1")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "ftp://example.org/a", "http://", "//example.org/a", "", "a b"]
    + ["http://exa mple.org/", "http://[bad/", "http://example.org/\r\nHost: x", "data:,x"],
)
def test_only_web_addresses_are_fetched(url):
    with pytest.raises(Rejected, match="bad address"):
        fetch.fetch(url)


# The Hub


@pytest.fixture
def hub(monkeypatch):
    """Stands for `datasets.load_dataset`, which needs the network."""
    import datasets

    tables = {}

    def load_dataset(repo, subset, split, revision):
        if repo not in tables:
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{repo}' doesn't exist")
        return tables[repo]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return tables


def hub_source(repo="someone/pictures"):
    return open_source(VisionCorpus(name="hub", source=f"hub:{repo}", train=1, test=1), 0)


def test_a_hub_dataset_with_images_and_answers(hub):
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "question": datasets.Value("string"),
            "answers": datasets.List(datasets.Value("string")),
        }
    )
    row = {"image": {"bytes": encoded(), "path": None}, "question": "What?", "answers": ["a cat"]}
    hub["someone/pictures"] = datasets.Dataset.from_list([row], features=features)
    example = hub_source().example("train", 0)
    assert example.image == encoded()
    assert example.text == "question: What? answer: a cat"


@pytest.mark.parametrize("many", [False, True])
def test_images_of_the_hub_are_checked_before_they_are_decoded(hub, monkeypatch, many):
    import datasets

    kind = datasets.List(datasets.Image()) if many else datasets.Image()
    features = datasets.Features({"images": kind, "text": datasets.Value("string")})
    picture = {"bytes": encoded(), "path": None}
    row = {"images": [picture] if many else picture, "text": "A cat."}
    hub["someone/pictures"] = datasets.Dataset.from_list([row], features=features)
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was unpacked"))
    with pytest.raises(Rejected, match="too many bytes"):
        hub_source().example("train", 0)


def test_a_hub_dataset_with_addresses(hub, monkeypatch):
    import datasets

    rows = [{"image_url": "http://example.org/cat.png", "caption": "a cat"}]
    hub["someone/pictures"] = datasets.Dataset.from_list(rows)
    monkeypatch.setattr(sources, "fetch", lambda url: {rows[0]["image_url"]: encoded()}[url])
    example = hub_source().example("train", 0)
    assert example.image == encoded()
    assert example.text == "a cat"


def test_a_path_in_a_hub_dataset_is_never_opened(hub, tmp_path):
    import datasets

    (tmp_path / "secret.png").write_bytes(encoded())
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "secret.png")}, "caption": "a cat"}]
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    hub["someone/pictures"] = datasets.Dataset.from_list(rows, features=features)
    with pytest.raises(Rejected, match="no image"):
        hub_source().example("train", 0)


def test_a_hub_dataset_of_the_wrong_shape_or_missing_is_one_line(hub):
    import datasets

    hub["someone/numbers"] = datasets.Dataset.from_list([{"x": 1}])
    with pytest.raises(UserError, match="has the columns x"):
        hub_source("someone/numbers").size("train")
    with pytest.raises(UserError, match="cannot load split 'train' of 'no/such'"):
        hub_source("no/such").size("train")


def test_the_test_split_may_be_a_dataset_of_its_own(hub):
    import datasets

    hub["a/train"] = datasets.Dataset.from_list([{"url": "", "text": ""}] * 3)
    hub["a/test"] = datasets.Dataset.from_list([{"url": "", "text": ""}] * 2)
    options = {"source": "hub:a/train", "test_source": "hub:a/test@v1", "train": 1, "test": 1}
    source = open_source(VisionCorpus(name="hub", **options), 0)
    assert (source.size("train"), source.size("test")) == (3, 2)
