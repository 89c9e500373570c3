"""Networks in files: equal when read back, whole or not at all, and never more than the file holds."""

from __future__ import annotations

import io
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tomli_w

import graphon_theory as gt
from graphon_theory.networks.specs import toml_text

RNG = np.random.default_rng(4)
SMALL = gt.Network([1.0, gt.Connectivity("1/2 + u/4", "1/2", "u*v/8"), 0.5], "gelu", [2.0, 1.0, 1.5], 0.1, outputs=3)
STAGES = gt.Network(
    [gt.Dense(1.0), gt.Residual(gt.Pointwise("relu"), gt.Dense([[0.5, 0.2], [0.1, 0.9]]), scale=0.5), gt.Dense(1.0)]
)


def large() -> gt.Network:
    mask = gt.StepGraphon(RNG.random((70, 60)), np.sort([0.0, *RNG.random(69), 1.0]))
    variance = gt.StepGraphon(3 * mask.values, mask.u_edges)
    return gt.Network(
        [mask, gt.Connectivity(mask, variance), 1.0], "erf", parameterization="standard", widths=(60, 70, 9)
    )


def known() -> gt.Network:
    profile = gt.StepGraphon(0.3 * RNG.standard_normal((40, 20)))
    told = gt.Known([profile, 0.1], [gt.StepGraphon(0.1 * RNG.random((40, 1))), 0.2], 0.3)
    return gt.Network([gt.Connectivity(1.0, 1.0, 0.0, known=told), 1.0], bias_variance=0.2)


@pytest.mark.parametrize("name", ["net.toml", "net.npz"])
@pytest.mark.parametrize("network", [SMALL, STAGES], ids=["plain", "stages"])
def test_networks_come_back_from_both_kinds(network: gt.Network, name: str, tmp_path: Path) -> None:
    network.save(tmp_path / name)
    assert gt.Network.load(tmp_path / name) == network
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "net.toml":
        assert (tmp_path / name).read_text() == network.to_toml()


@pytest.mark.parametrize("make", [large, known])
def test_what_text_does_not_hold_comes_back_from_arrays(make: object, tmp_path: Path) -> None:
    network = make()  # type: ignore[operator]
    with pytest.raises(gt.SpecError, match=r"network.save\(path\) with a name in .npz"):
        network.to_toml()
    with pytest.raises(gt.SpecError, match=r"network.save\(path\) with a name in .npz"):
        network.save(tmp_path / "net.toml")
    assert not list(tmp_path.iterdir())
    network.save(tmp_path / "net.npz")
    found = gt.Network.load(str(tmp_path / "net.npz"))
    assert found == network
    assert hash(found) == hash(network)


def test_numpy_reads_the_arrays_too(tmp_path: Path) -> None:
    network = large()
    network.save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as there:
        np.testing.assert_array_equal(there["a0"], network.layers[0].mask.values)  # type: ignore[attr-defined]
        assert b"weight_variance" in there["network.toml"]


def test_an_estimate_of_the_size_of_mnist_comes_back(tmp_path: Path) -> None:
    masks = [RNG.random(shape) < 0.15 for shape in ((512, 784), (512, 512), (10, 512))]
    network = gt.Network(gt.estimate_network(masks, blocks=16, starts=1), outputs=10)
    with pytest.raises(gt.SpecError, match="12544 entries, at most 4096"):
        network.to_toml()
    network.save(tmp_path / "mnist.npz")
    assert gt.Network.load(tmp_path / "mnist.npz") == network


def test_callables_and_other_names_are_refused(tmp_path: Path) -> None:
    network = gt.Network([1.0, gt.FunctionGraphon(lambda u, v: 0.5 + 0 * u * v), 1.0])
    with pytest.raises(gt.SpecError, match="a callable cannot be written"):
        network.save(tmp_path / "net.npz")
    for name in ("net.nc", "net", ""):
        with pytest.raises(gt.SpecError, match=r"path: expected"):
            SMALL.save(tmp_path / name if name else name)
    with pytest.raises(gt.SpecError, match="path: expected the path of a file, got 3"):
        SMALL.save(3)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes | None) -> Path:
    """The file with other members (None: without), named by their stems."""
    with zipfile.ZipFile(path) as archive:
        content = {one: archive.read(one) for one in archive.namelist()}
    for stem, value in members.items():
        name = "network.toml" if stem == "network" else f"{stem}.npy"
        content.pop(name) if value is None else content.update({name: value})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def npy(values: object, shape: tuple[int, ...] | None = None) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values), allow_pickle=True)
    if shape is None:
        return file.getvalue()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return head.getvalue() + b"\0" * 64


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"network": None}, "it holds no network.toml"),
        ({"network": b"layer = "}, "not valid TOML"),
        ({"network": b"\xff"}, "utf-8"),
        ({"network": b"outputs = 1"}, "expected at least one"),
        ({"network": b"[[layer]]\nmask = {values = {array = 'b'}}"}, "refers to an array b"),
        ({"network": b"[[layer]]\nmask = {values = {array = 3}}"}, "refers to an array 3"),
        ({"a0": None}, "refers to an array a0"),
        ({"a0": b"no array"}, "magic string"),
        ({"a0": npy([[print]])}, "expected float64"),
        ({"a0": npy(np.ones((70, 60), np.float32))}, "expected float64"),
        ({"a0": npy(0, (2**40, 2**20))}, "that fill the shape"),
        ({"a0": npy(np.full((70, 60), np.nan))}, "finite"),
        ({"a0": npy(np.ones((3, 3, 3)))}, "layer 1, mask"),
    ],
)
def test_damaged_files_are_refused(members: dict[str, bytes | None], message: str, tmp_path: Path) -> None:
    large().save(tmp_path / "net.npz")
    path = rewritten(tmp_path / "net.npz", zipfile.ZIP_STORED, **members)
    with pytest.raises(gt.GraphonError, match=message) as raised:
        gt.Network.load(path)
    assert str(path) in str(raised.value)


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    large().save(tmp_path / "net.npz")
    bomb = rewritten(tmp_path / "net.npz", zipfile.ZIP_DEFLATED, a0=b"\0" * 10_000_000)
    assert bomb.stat().st_size < 200_000
    with pytest.raises(gt.SpecError, match="its members are compressed"):
        gt.Network.load(bomb)
    content = bytearray((tmp_path / "net.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(gt.SpecError, match="reading it fails"):
        gt.Network.load(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError):
        gt.Network.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_bytes(b"\xff\xfe")
    with pytest.raises(gt.SpecError, match="no UTF-8 text"):
        gt.Network.load(tmp_path / "text.npz")


def test_rows_of_numbers_stand_on_one_line_and_words_are_left_alone() -> None:
    table = {
        "values": [[0.9, -1e-7], [float("inf"), 3]],
        "name": "f = [\n    1,\n]",
        "names": ["relu", "erf"],
        "empty": [],
        "layer": [{"mask": [[0.5]]}, {"mask": 1.0}],
    }
    text = toml_text(table)
    assert tomllib.loads(text) == table == tomllib.loads(tomli_w.dumps(table))
    assert "[0.9, -1e-07]" in text
    assert "[inf, 3]" in text
    network = gt.Network([1.0, gt.StepGraphon(np.linspace(0, 1, 64).reshape(8, 8)), 1.0])
    assert len(gt.limit_kernel(network, np.eye(2)).attrs["network"].splitlines()) < 40
