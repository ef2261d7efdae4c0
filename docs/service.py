"""Speaker verification over HTTP.

python docs/service.py MODEL VOICES.npz [calibration.json]
"""

import dataclasses
import io
import queue
import sys
import tempfile
import threading
from concurrent.futures import Future

import torch
from flask import Flask, jsonify, request
from waitress import serve

from speechbrain.utils.distributed import infer_device
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.verifier import SpeakerVerifier

MOST_BYTES = 32 * 2**20  # of a request
THREADS = 8


class Together:
    """An encoder that embeds in one pass what several threads wait for.

    Nobody waits for others to come: what arrives during a pass is the next.
    """

    def __init__(self, encoder):
        self.encoder, self.waiting = encoder, queue.SimpleQueue()
        self.sample_rate, self.key = encoder.sample_rate, encoder.key
        self.training = encoder.training
        # The first waveforms decide whether lengths can be packed.
        encoder.embed([torch.randn(n * self.sample_rate) for n in (1, 2, 3)])
        threading.Thread(target=self._work, daemon=True).start()

    def __call__(self, waveforms):
        """Waveforms [batch, time] to embeddings [batch, dim]."""
        answer = Future()
        self.waiting.put((list(waveforms), answer))
        return answer.result()

    def _work(self):
        while True:
            asked = [self.waiting.get()]
            asked += [self.waiting.get() for _ in range(self.waiting.qsize())]
            parts, answers = zip(*asked)
            try:
                found = self.encoder.embed(sum(parts, []))
                found = found.split([*map(len, parts)])
                for answer, vectors in zip(answers, found):
                    answer.set_result(vectors)
            except Exception as error:
                for answer in answers:
                    answer.set_exception(error)


def make_app(verifier, store):
    """The service, which any WSGI server runs in any number of threads.

    Arguments
    ---------
    verifier : SpeakerVerifier
        With a threshold or calibration.
    store : str
        The enrolled voices, .npz; other processes may change it too.

    Returns
    -------
    flask.Flask
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES

    def recordings(field):
        """What was uploaded; its names are never taken for paths."""
        uploads = request.files.getlist(field)
        if not uploads:
            raise UserError(f"upload a recording as {field}")
        heard = []
        for upload in uploads:
            sound = io.BytesIO(upload.read())
            sound.name = field
            heard.append(verifier.listen(sound))
        return heard

    @app.errorhandler(UserError)
    def refuse(error):
        return jsonify(error=str(error)), 400

    @app.get("/health")
    def health():
        return jsonify(decides=verifier.decides)

    @app.post("/verify")
    def verify():
        first, second = recordings("first")[0], recordings("second")[0]
        return jsonify(dataclasses.asdict(verifier.verify(first, second)))

    @app.post("/identify")
    def identify():
        (heard,) = recordings("recording")[:1]
        with verifier.editing(store):
            found = verifier.identify(heard)
        return jsonify(dataclasses.asdict(found))

    @app.get("/voices")
    def voices():
        with verifier.editing(store):
            return jsonify(verifier.voices())

    @app.put("/voices/<name>")
    def enrol(name):
        heard = recordings("recording")
        with verifier.editing(store):
            verifier.enrol(name, heard, add=True)
        return jsonify(name=name, recordings=len(heard)), 201

    @app.delete("/voices/<name>")
    def remove(name):
        with verifier.editing(store):
            verifier.remove(name)
        return jsonify(name=name)

    return app


if __name__ == "__main__":
    model, store, *given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        encoder = Together(load_encoder(model, folder, infer_device()))
    rule = {"threshold": 0.25}  # SpeechBrain's documented one
    if given:
        rule = {"calibration": Calibration.load(given[0], encoder.key)}
    verifier = SpeakerVerifier(encoder, **rule)
    serve(make_app(verifier, store), listen="*:8080", threads=THREADS)
