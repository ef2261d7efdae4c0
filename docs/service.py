"""Speaker verification over HTTP: python docs/service.py MODEL VOICES.npz"""

import dataclasses
import io
import sys

from flask import Flask, jsonify, request
from waitress import serve

from speechbrain_scl.errors import UserError
from speechbrain_scl.verifier import SpeakerVerifier

MOST_BYTES = 32 * 2**20  # of a request


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
    model, store = sys.argv[1:]
    verifier = SpeakerVerifier.load(model, threshold=0.25)
    serve(make_app(verifier, store), listen="*:8080", threads=4)
