"""What notebooks show: well-formed, in the colours of figures, nothing of a user's text as markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import graphon_theory as gt
from graphon_theory.data.heat_pictures import _CIVIDIS, _LEVELS, _PUOR, _colour, _read, heat_map

STEP = gt.StepGraphon([[0.9, 0.1], [0.2, 0.6]], u_edges=[0, 0.3, 1])
LAYER = gt.Connectivity(STEP, "0.3 + 0.2*u*v", "0.3*sin(6*u)*v")


class Tags(HTMLParser):
    """Tags that open and close, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def cells_of(svg: str) -> dict[tuple[float, float], str]:
    """Colour by (left, top) of the pieces of a map."""
    found = {}
    for path in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        for box in path.attrib["d"].split("M")[1:]:
            left, top = box.split("H")[0].split()
            found[float(left), float(top)] = path.attrib["fill"]
    return found


def test_cells_stand_on_their_edges_in_the_colours_of_figures() -> None:
    svg = heat_map(np.array([0, 0.3, 1]), np.array([0, 0.5, 1]), np.array([[0.9, 0.1], [0.2, 0.6]]), side=100)
    cells = cells_of(svg)
    assert set(cells) == {(0, 0), (50, 0), (0, 30), (50, 30)}
    for value, place in ((0.9, (0.0, 0.0)), (0.1, (50.0, 0.0)), (0.2, (0.0, 30.0)), (0.6, (50.0, 30.0))):
        wanted = np.array(mpl.colormaps["cividis"](value / 0.9)[:3]) * 255
        drawn = np.array([int(cells[place][k : k + 2], 16) for k in (1, 3, 5)])
        assert np.abs(drawn - wanted).max() < 12
    assert "receiving u" in svg
    assert "sending v" in svg
    assert ">0.9<" in svg


def test_colour_tables_are_those_of_figures() -> None:
    for anchors, name in ((_CIVIDIS, "cividis"), (_PUOR, "PuOr")):
        for level in range(_LEVELS):
            wanted = np.array(mpl.colormaps[name](level / (_LEVELS - 1))[:3]) * 255
            drawn = np.array([int(_colour(_read(anchors), level)[k : k + 2], 16) for k in (1, 3, 5)])
            assert np.abs(drawn - wanted).max() < 12


def test_maps_have_one_range_where_they_are_compared() -> None:
    edges = np.array([0.0, 1.0])
    svg = heat_map(edges, edges, np.array([[0.2]]), named=False, reach=1.0)
    assert next(iter(cells_of(svg).values())) != "#fee838"
    assert set(cells_of(heat_map(edges, edges, np.array([[-0.5]]), named=False)).values()) == {"#7f3b08"}


@pytest.mark.parametrize(
    "thing",
    [
        STEP,
        gt.as_graphon("min(u, v)"),
        1 - gt.as_graphon("u*v") + STEP,
        LAYER,
        gt.Network([1.0, LAYER, 1.0]),
        gt.Network([gt.Dense(1.0), gt.Residual(gt.Pointwise(), gt.Dense(STEP)), gt.LayerNorm(), gt.Dense(1.0)]),
        gt.StepGraphon(np.random.default_rng(0).random((200, 100))),
        gt.estimate_network([STEP.sample(30, 20, 0), STEP.sample(10, 30, 1)], blocks=2),
    ],
    ids=lambda one: type(one).__name__,
)
def test_html_is_well_formed_and_small(thing: Any) -> None:
    html = thing._repr_html_()
    assert "svg" in Tags(html).seen
    assert len(html) < 60_000


def test_text_of_users_is_text() -> None:
    def named(u: Any, v: Any) -> Any:
        return u * v

    named.__name__ = "<script>alert('W & V')</script>"
    graphon = gt.FunctionGraphon(named)
    for thing in (graphon, graphon + STEP, gt.Connectivity(graphon), gt.Network([graphon])):
        assert "script" not in Tags(thing._repr_html_()).seen
    assert named.__name__ in Tags(graphon._repr_html_()).text
    failing = gt.FunctionGraphon(lambda u, v: np.where(u < 0.01, np.inf, 0.5))
    assert "finite" in Tags(failing._repr_html_()).text


def test_a_network_is_a_table_of_its_stages() -> None:
    network = gt.Network(
        [gt.Dense(1.0), gt.Residual(gt.Pointwise("erf"), gt.Dense(STEP), scale=0.5), gt.LayerNorm(), gt.Dense(LAYER)],
        bias_variance=0.1,
    )
    text = Tags(network._repr_html_()).text
    for told in ("3 weight layers", "erf", "branch times 0.5", "LayerNorm", "2 x 2 blocks", "W: 0.1 to 0.9", "D: "):
        assert told in text
    long = gt.Network([1.0] * 40)
    assert "more stages" in Tags(long._repr_html_()).text


def test_latex_of_layers() -> None:
    assert LAYER._repr_latex_().startswith("$W(u, v) = ")
    assert "D(u, v) = " in LAYER._repr_latex_()
    assert gt.Connectivity(0.5)._repr_latex_() == "$W(u, v) = 0.5$"


def test_attributes_stay_short_and_tell_networks_apart() -> None:
    tables = np.random.default_rng(0).random((2, 3, 40, 40))
    one, other = (gt.Network([1.0, *three, 1.0]) for three in tables)
    assert len(one.to_toml()) > 50_000
    assert len(one.describe()) < 2_000
    assert one.describe() != other.describe()
    small = gt.Network([1.0, STEP, 1.0])
    assert small.describe() == small.to_toml()


def test_variances_of_layers_can_be_compared() -> None:
    html = gt.Network([1.0, gt.magnitude_pruning(0.2)])._repr_html_()
    assert "V = 0.65" in html
    shade = _colour(_read(_CIVIDIS), round(gt.magnitude_pruning(0.2).variance.mean() * (_LEVELS - 1)))
    assert f'fill="{shade}"' in html
