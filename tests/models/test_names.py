from __future__ import annotations

import subprocess
import sys

import pytest

from oba.errors import ConfigError
from oba.models.names import DEPTHS, check_name, slug
from oba.models.parse import family, parse_own


@pytest.mark.parametrize("name", [f"{kind}{depth}" for kind, depths in DEPTHS.items() for depth in depths])
def test_every_depth_is_accepted_with_and_without_a_width(name: str) -> None:
    for given, width in ((name, 1.0), (f"{name}x4", 4.0), (f"{name}x0.5", 0.5)):
        check_name(given, "models")
        assert parse_own(given) == (int(name.lstrip("resntvg")), width)


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/resnet10t.c3_in1k", "torchvision/resnet18"])
def test_names_of_libraries_are_looked_up(name: str) -> None:
    check_name(name, "models")
    assert family(name) == name.partition("/")[0]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnte20", "'resnet20'"),
        ("resnet21", "'resnet20'"),
        ("resnet20x", "'resnet20'"),
        ("vgg15", "'vgg16'"),
        ("timm/resnet10x", "'timm/resnet10t'"),
        ("timm/resnet10t.no_such_tag", "'timm/resnet10t.c3_in1k'"),
        ("torchvision/resnet19", "'torchvision/resnet18'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_name(name, "models")
    message = str(caught.value)
    assert message.startswith(f"models: unknown model {name!r}")
    assert near in message
    assert "allowed: " in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["", "timm", "keras/resnet50", "mlp", "resnet", "x4", "resnet20x-1", "Resnet20"])
def test_what_resembles_nothing_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown model .*allowed: resnet8, .*vgg19 .*timm/<name>"):
        check_name(name, "models")


@pytest.mark.parametrize("name", ["resnet20x0", "resnet20x0.01", "vgg19x100"])
def test_absurd_widths_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"models: .* times as wide; allowed: 0.0625 to 16$"):
        check_name(name, "models")


def test_a_library_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="models: 'timm/resnet10t' needs timm, which cannot be imported"):
        check_name("timm/resnet10t", "models")


def test_slugs_are_folder_names() -> None:
    assert slug("timm/resnet50.a1_in1k") == "timm-resnet50.a1_in1k"
    assert slug("resnet32x4") == "resnet32x4"


def test_importing_and_checking_own_names_costs_no_torch() -> None:
    code = (
        "import sys; from oba.models.names import check_name; check_name('resnet8', 'models'); "
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
