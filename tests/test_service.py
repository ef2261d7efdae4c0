"""docs/service.py, asked from several threads."""

import io
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import ROOT

from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture(scope="module")
def ask(untrained, tmp_path_factory):
    """Sends a request with recordings; returns status and content."""
    service = runpy.run_path(str(ROOT / "docs" / "service.py"))
    store = str(tmp_path_factory.mktemp("store") / "voices.npz")
    verifier = SpeakerVerifier.load(untrained, threshold=0.5)
    app = service["make_app"](verifier, store)

    def ask(method, path, **recordings):
        uploads = {
            name: (io.BytesIO(Path(file).read_bytes()), "../../x.wav")
            for name, file in recordings.items()
        }
        answer = app.test_client().open(path, method=method, data=uploads)
        return answer.status_code, answer.json

    return ask


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
