"""docs/service.py, by real requests from several threads."""

import json
import runpy
import threading
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import waitress
from commands import ROOT

from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture(scope="module")
def ask(untrained, tmp_path_factory):
    """Sends a request with recordings; returns status and content."""
    service = runpy.run_path(str(ROOT / "docs" / "service.py"))
    store = str(tmp_path_factory.mktemp("store") / "voices.npz")
    verifier = SpeakerVerifier.load(untrained, threshold=0.5)
    app = service["make_app"](verifier, store)
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=server.run, daemon=True).start()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(method, path, **recordings):
        limit = uuid.uuid4().hex
        head = f"--{limit}\r\nContent-Disposition: form-data; "
        content = b"".join(
            f'{head}name="{name}"; filename="../../x.wav"\r\n\r\n'.encode()
            + Path(file).read_bytes()
            + b"\r\n"
            for name, file in recordings.items()
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.effective_port}{path}",
            content + f"--{limit}--\r\n".encode() if content else None,
            {"Content-Type": f"multipart/form-data; boundary={limit}"},
            method=method,
        )
        try:
            with opener.open(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    yield ask
    server.close()


def test_many_requests_at_once(ask, untrained, spoken):
    wanted = SpeakerVerifier.load(untrained).verify(*spoken[:2]).cosine

    def verify(_):
        return ask("POST", "/verify", first=spoken[0], second=spoken[1])

    with ThreadPoolExecutor(8) as pool:
        for status, found in pool.map(verify, range(12)):
            assert status == 200 and found["same_speaker"] is True
            assert found["cosine"] == pytest.approx(wanted, abs=1e-5)


def test_voices_and_mistakes(ask, spoken, tmp_path):
    assert ask("GET", "/health") == (200, {"decides": True})
    for name, recording in (("ann", spoken[0]), ("bob", spoken[2])):
        status, found = ask("PUT", f"/voices/{name}", recording=recording)
        assert status == 201 and found["recordings"] == 1
    status, found = ask("POST", "/identify", recording=spoken[2])
    assert status == 200 and found["speaker"] == "bob"
    assert ask("DELETE", "/voices/bob")[0] == 200
    assert ask("GET", "/voices") == (200, ["ann"])
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    for method, path, recordings, said in (
        ("POST", "/verify", {"first": spoken[0]}, "upload a recording as sec"),
        ("POST", "/identify", {"recording": broken}, "recording: "),
        ("PUT", "/voices/a%0Ab", {"recording": spoken[0]}, "not a name"),
        ("DELETE", "/voices/bob", {}, "no such voice"),
    ):
        status, found = ask(method, path, **recordings)
        assert status == 400 and said in found["error"]
