"""The commands ``graphon-theory ...`` and ``python -m graphon_validation ...``, for :mod:`tests.tools.fuzz`.

What is spoilt is an option's text, or the bytes of a file that a command reads.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import graphon_theory as gt
from graphon_theory import cli
from graphon_theory.data.files import save_dataset
from graphon_theory.errors import GraphonError
from tests.tools.fuzz_problems import NEW, STEP, Entry, X, Y

FOLDER = Path("files")
_IMAGES = 300


@cache
def _files() -> dict[str, bytes]:
    """What the commands read, by name."""
    FOLDER.mkdir(exist_ok=True)
    network = gt.Network([1.0, STEP, 1.0], "erf", 1.5, 0.1)
    (FOLDER / "net.toml").write_text(network.to_toml(), encoding="utf-8")
    np.save(FOLDER / "x.npy", X)
    np.savetxt(FOLDER / "y.csv", Y, delimiter=",")
    np.savez(FOLDER / "xy.npz", x=X, y=Y, x_test=NEW, y_test=Y[:2])
    network.save(FOLDER / "net.npz")
    save_dataset(gt.limit_kernel(network, X), FOLDER / "kernel.nc")
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.7 for shape in ((6, 2), (6, 6), (1, 6))]
    np.savez(FOLDER / "masks.npz", *masks)
    images, labels = rng.integers(0, 256, (_IMAGES, 3, 3), dtype=np.uint8), np.arange(_IMAGES) % 3
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels.astype(np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (FOLDER / name).write_bytes(head + array.tobytes())
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}


class Escaped(Exception):
    """A command ended as it should not: another status, no message, or a traceback in it."""


def _run(main: Callable[[list[str]], int], good: tuple[int, ...], **parts: Any) -> str:
    """Run a command with options by name, and files of other bytes where ``parts`` says so."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in _files().items():
        (FOLDER / name).write_bytes(content)
    words: list[str] = []
    for name, value in parts.items():
        if name.startswith("file "):
            (FOLDER / name.removeprefix("file ")).write_bytes(_as_bytes(value))
        elif name.startswith("--"):
            words += [name, *_as_words(value)]
        else:
            words += _as_words(value)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
    told = err.getvalue()
    if status not in good or "Traceback" in told or (status and not told.strip()):
        raise Escaped(f"{words[:8]!r}: status {status}, {told[-500:]!r}")
    if status:
        raise GraphonError(told.strip().splitlines()[-1][:500])
    return out.getvalue()


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, np.ndarray) and value.dtype != object and value.size < 10_000:
        file = io.BytesIO()
        np.save(file, value)
        return file.getvalue()
    return _text(value).encode("utf-8", "surrogatepass")


def _as_words(value: Any) -> list[str]:
    return [_text(one) for one in value] if isinstance(value, list | tuple) else [_text(value)]


def _text(value: Any) -> str:
    try:
        return str(value)[:5_000] if not str(type(value).__module__).startswith("sympy") else type(value).__name__
    except ValueError:  # integers of thousands of digits
        return "9" * 5_000


def _at(name: str) -> str:
    return str(FOLDER / name)


def commands() -> list[Entry]:
    return [*_of_theory(), *_of_experiments()]


def _of_theory() -> list[Entry]:
    out: list[Entry] = []
    main = partial(_run, cli.main, (0, 1, 2))

    def entry(name: str, plain: dict[str, Any], *files: str) -> None:
        out.append(
            Entry(
                f"command {name}",
                main,
                lambda: {"command": name, **plain, **{f"file {one}": _files()[one] for one in files}},
                (str,),
                kept=("command",),
            )
        )

    entry(
        "kernel",
        {"spec": _at("net.toml"), "--inputs": _at("x.npy"), "--rtol": "1e-8", "--out": _at("made.nc")},
        "net.toml",
        "x.npy",
    )
    entry(
        "spectrum",
        {"source": _at("kernel.nc"), "--count": "2", "--kind": "ntk", "--output": "0", "--out": _at("made.nc")},
        "kernel.nc",
    )
    entry(
        "dynamics",
        {
            "source": _at("kernel.nc"),
            "--targets": _at("y.csv"),
            "--times": ["0", "1", "inf"],
            "--learning-rate": "0.5",
            "--out": _at("made.nc"),
        },
        "kernel.nc",
        "y.csv",
    )
    entry(
        "compare",
        {
            "specs": [_at("net.toml")],
            "--inputs": _at("xy.npz"),
            "--targets": _at("xy.npz"),
            "--test-inputs": _at("xy.npz"),
            "--test-targets": _at("xy.npz"),
            "--level": "0.1",
            "--ridge": "0.1",
            "--count": "2",
            "--out": _at("made.nc"),
        },
        "net.toml",
        "xy.npz",
    )
    entry(
        "estimate",
        {
            "masks": [_at("masks.npz")],
            "--blocks": "2",
            "--inputs": "2",
            "--activation": "relu",
            "--weight-variance": "2",
            "--bias-variance": "0.1",
            "--out": _at("made.toml"),
        },
        "masks.npz",
    )
    entry("report", {"result": _at("net.npz"), "--title": "A network", "--out": _at("made.html")}, "net.npz")
    entry("plot", {"result": _at("kernel.nc"), "--out": _at("made.svg")}, "kernel.nc")
    entry(
        "design",
        {
            "spec": _at("net.toml"),
            "--inputs": _at("xy.npz"),
            "--targets": _at("xy.npz"),
            "--density": "0.5",
            "--widths": [str(X.shape[1]), "6", "6", "1"],
            "--blocks": "2",
            "--starts": "1",
            "--iterations": "1",
            "--holdout": "0",
            "--seed": "0",
            "--out": _at("designed.npz"),
        },
        "net.toml",
    )
    return out


def _of_experiments() -> list[Entry]:
    try:
        from graphon_validation import commands as experiments
    except ImportError as error:
        if error.name != "graphon_validation":  # which needs torch
            raise
        return []
    main = partial(_run, experiments.main, (0, 1, 2))
    on_images = {"--data": f"idx:{FOLDER}"}
    images = {f"file {name}": name for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")}
    given: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "quickstart-sweep": (
            {"--network": _at("net.toml"), "--inputs": _at("x.npy")},
            {"file net.toml": "net.toml", "file x.npy": "x.npy"},
        ),
        "width-sweep": ({}, {}),
        "three-blocks": ({}, {}),
        "stages": ({}, {}),
        "magnitude-gap": ({"--widths": "64"}, {}),
        "protocols": (
            {"--method": "magnitude", "--density": "0.5", "--blocks": "2", "--hidden": "2", **on_images},
            images,
        ),
        "saliency": (
            {
                "--density": "0.8",
                "--loss": "squared",
                "--activation": "relu",
                "--bias-variance": "0.1",
                "--hidden": "2",
                "--positions": "8",
                **on_images,
            },
            images,
        ),
        "sign-scores": (on_images, images),
        "sign-test": ({"--methods": ["magnitude"], "--densities": ["0.5"], "--hidden": ["2"], **on_images}, images),
        "path-sums": ({"--method": "magnitude", **on_images}, images),
        "upstream": ({"--densities": ["0.5"], "--positions": "8", **on_images}, images),
        "snip-labels": ({"--densities": ["0.5"], "--hidden": "2", "--activation": "relu", **on_images}, images),
        "training": (
            {
                "--methods": ["magnitude"],
                "--densities": ["0.5"],
                "--learning-rate": "0.001",
                "--init": "he",
                "--hidden": "2",
                **on_images,
            },
            images,
        ),
        "synflow-law": (
            {"--densities": "0.5", "--rounds": "2", "--hidden": "2", "--inputs": "64"},
            {},
        ),
        "mask-convergence": (
            {
                "--methods": "magnitude",
                "--densities": "0.5",
                "--at": "0.5",
                "--largest": "12",
                "--hidden": "2",
                "--bins": "4",
                "--positions": "8",
                "--device": "cpu",
                **on_images,
            },
            images,
        ),
        "spectrum": (
            {
                "--methods": "magnitude",
                "--densities": "0.5",
                "--samples": "30",
                "--hidden": "2",
                "--rounds": "2",
                "--device": "cpu",
                **on_images,
            },
            images,
        ),
        "kernel-convergence": (
            {
                "--methods": "random",
                "--widths": ["8", "12"],
                "--densities": ["1", "0.5"],
                "--spread-widths": ["8", "12"],
                "--spread-seeds": "3",
                "--device": "cpu",
            },
            {},
        ),
        "descent": (
            {"--methods": "magnitude", "--density": "0.5", "--scales": "1", "--steps": "2", "--device": "cpu"},
            {},
        ),
        "kernel-motion": (
            {"--sets": "wine", "--variances": "2", "--densities": "0.5", "--layers": "2"},
            {},
        ),
        "cross-entropy": (
            {
                "--kinds": "snip",
                "--density": "0.9",
                "--variances": "2",
                "--steps": "2",
                "--positions": "8",
                "--device": "cpu",
            },
            {},
        ),
        "sequel": ({"--widths": "32", "--densities": "0.5", "--strengths": "1", "--samples": "20"}, {}),
        "graphon-paths": ({"--kinds": "synflow", "--widths": "16", "--density": "0.5", "--steps": "20"}, {}),
        "design": ({"--task": "relevant", "--density": "0.5", "--methods": "random", "--steps": "2"}, {}),
        "transfer": (
            {
                "--laws": "random",
                "--densities": ["1", "0.5"],
                "--steps": "2",
                "--train": "20",
                "--optimizers": "gd",
            },
            {},
        ),
    }
    quick = {"quickstart-sweep", "width-sweep", "three-blocks", "sign-scores", "sign-test", "upstream"}

    def plain(name: str) -> dict[str, Any]:
        options, files = given[name]
        content = {key: _files()[one] for key, one in files.items()}
        return {"command": name, "--out": "made", "--widths": ["8"], "--seeds": "3", **options, **content}

    def estimate() -> dict[str, Any]:
        options = {"--blocks": "2", "--inputs": "2", "--activations": ["relu"], "--init": "0.5"}
        files = {"source": _at("model.pt"), "--out": _at("made.toml"), "file model.pt": _model()}
        return {"command": "estimate", **options, **files}

    return [
        *(
            Entry(f"experiment {name}", main, partial(plain, name), (str,), kept=("command",), slow=name not in quick)
            for name in given
        ),
        Entry("experiment estimate", main, estimate, (str,), kept=("command",)),
    ]


@cache
def _model() -> bytes:
    """The file of a torch model."""
    import torch

    generator, file = torch.Generator().manual_seed(0), io.BytesIO()
    shapes = {"0.weight": (6, 4), "0.bias": (6,), "2.weight": (1, 6), "2.bias": (1,)}
    torch.save({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, file)
    return file.getvalue()
