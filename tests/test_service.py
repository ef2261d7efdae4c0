"""docs/service.py, by real requests from several threads."""

import runpy
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import waitress
from commands import ROOT

from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture(scope="module")
def encoding():
    """How many waveforms each pass took; how many more the next waits for."""
    return types.SimpleNamespace(passes=[], waits_for=0)


@pytest.fixture(scope="module")
def ask(untrained, encoding, tmp_path_factory):
    """Sends a request with recordings; returns status and content."""
    service = runpy.run_path(str(ROOT / "docs" / "service.py"))
    store = str(tmp_path_factory.mktemp("store") / "voices.npz")
    encoder = load_encoder(untrained, str(tmp_path_factory.mktemp("model")))
    embed = encoder.embed

    def counted(wavs):
        encoding.passes.append(len(wavs))
        if wanted := encoding.waits_for:
            encoding.waits_for = 0
            while together.waiting.qsize() < wanted:
                time.sleep(0.01)
        return embed(wavs)

    encoder.embed = counted
    together = service["Together"](encoder)
    verifier = SpeakerVerifier(together, threshold=0.5)
    app = service["make_app"](verifier, store)

    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    address = f"http://127.0.0.1:{server.effective_port}"

    def ask(method, path, **recordings):
        uploads = {
            name: ("../../x.wav", Path(file).read_bytes())
            for name, file in recordings.items()
        }
        with requests.Session() as session:
            session.trust_env = False  # nor its proxies
            answer = session.request(method, address + path, files=uploads)
        return answer.status_code, answer.json()

    yield ask
    server.trigger.pull_trigger(server.close)  # in its own thread


def test_many_requests_at_once(ask, encoding, untrained, spoken):
    """What comes during a pass is the next, of whatever lengths."""
    wanted = SpeakerVerifier.load(untrained).verify(*spoken[:2]).cosine

    def verify(_):
        return ask("POST", "/verify", first=spoken[0], second=spoken[1])

    before, encoding.waits_for = len(encoding.passes), 4
    with ThreadPoolExecutor(8) as pool:
        for status, found in pool.map(verify, range(12)):
            assert status == 200 and found["same_speaker"] is True
            assert found["cosine"] == pytest.approx(wanted, abs=1e-5)
    _, second, *_ = passes = encoding.passes[before:]
    assert second >= 4 and sum(passes) == 24


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
