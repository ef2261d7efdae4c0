"""Installs speechbrain_scl; the linters' settings are in pyproject.toml."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = pathlib.Path(__file__).parent
version = re.search(
    r'__version__ = "(.+)"',
    (here / "speechbrain_scl" / "__init__.py").read_text(encoding="utf-8"),
).group(1)

# The mini corpus speaks with espeak-ng, whose library is GPL: an extra, never
# imported by the package proper.
demo = ["espeakng-loader>=0.2,<0.3"]
# Other aggregators of gradients (a weighting for balancing.Balancer)
torchjd = ["torchjd>=0.8"]
# Embeddings as Kaldi ark/scp
kaldi = ["kaldiio>=2.18"]
# The curves of a training
tensorboard = ["tensorboard>=2.14"]
# speechbrain-scl export
onnx = ["onnx>=1.16", "onnxscript>=0.5", "onnxruntime>=1.17"]
# make docs
docs = ["sphinx>=7", "myst-parser>=3", "furo>=2024.8"]
# docs/tutorial.ipynb, from docs/tutorial.md
notebook = ["jupytext>=1.16", "nbclient>=0.10", "ipykernel>=6.29"]
# docs/service.py
service = ["flask>=3,<4", "waitress>=3,<4"]
# Recordings that soundfile does not read (m4a, amr, video, ...)
ffmpeg = ["imageio-ffmpeg>=0.5"]
test = [
    *demo,
    *docs,
    *notebook,
    *onnx,
    *torchjd,
    *kaldi,
    *tensorboard,
    *ffmpeg,
    *service,
    "pytest>=8,<10",
    "pytest-xdist>=3.5,<4",
    "hypothesis>=6.100",
    "requests>=2.31",
    "pytorch-metric-learning>=2.5,<3",
    "ruff==0.12.4",
    "yamllint==1.35.1",
    "codespell==2.3.0",
]


class BuildWithExperiments(build_py):
    """Puts recipes and hparams into the package, for speechbrain-scl init."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        inside = pathlib.Path(self.build_lib, "speechbrain_scl", "experiments")
        shutil.rmtree(inside, ignore_errors=True)
        for name in ("recipes", "hparams"):
            ignored = shutil.ignore_patterns("__pycache__", "results", "data")
            shutil.copytree(here / name, inside / name, ignore=ignored)


setup(
    name="speechbrain_scl",
    version=version,
    description="Margin-contrastive speaker embeddings for SpeechBrain",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The speechbrain_scl contributors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="speaker verification, speaker recognition, speechbrain",
    project_urls={
        "Paper": "https://arxiv.org/abs/2210.16622",
        "SpeechBrain": "https://github.com/speechbrain/speechbrain",
    },
    packages=find_packages(include=["speechbrain_scl", "speechbrain_scl.*"]),
    package_data={
        "speechbrain_scl": ["py.typed"],
        "speechbrain_scl.evaluation": ["templates/*.html"],
        "speechbrain_scl.release": ["card.md"],
    },
    cmdclass={"build_py": BuildWithExperiments},
    python_requires=">=3.10,<3.13",
    install_requires=[
        # torchaudio 2.11.0 binds to torch 2.11; 2.11.1 takes it too, and then
        # misses symbols of a later one when it is imported.
        "torch>=2.11,<2.12",
        "torchaudio==2.11.0",
        # 1.1.0 and 1.1.1 install a top-level recipes package; 1.0 does not
        # load with torchaudio 2.11.
        "speechbrain>=1.1.2,<1.2",
        "hyperpyyaml>=1.2,<2",
        "ruamel.yaml<0.19",  # HyperPyYAML uses what 0.19 removed
        "sentencepiece>=0.1.91",
        "numpy>=1.26",
        "scipy>=1.12",
        "scikit-learn>=1.4",
        "soundfile>=0.12.1",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "tqdm>=4.42",
        "polars>=1.20",  # of long trial lists
        "huggingface_hub>=0.20",
        "charset-normalizer>=3,<4",
        "filelock>=3.12",
        "silero-vad>=6.2,<7",  # its weights ship in the package
    ],
    entry_points={
        "console_scripts": [
            "speechbrain-scl = speechbrain_scl.command_line.main:main"
        ]
    },
    extras_require={
        "demo": demo,
        "docs": docs,
        "ffmpeg": ffmpeg,
        "notebook": notebook,
        "kaldi": kaldi,
        "onnx": onnx,
        "service": service,
        "tensorboard": tensorboard,
        "torchjd": torchjd,
        "test": test,
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Typing :: Typed",
    ],
)
