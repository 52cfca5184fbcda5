"""The pages build into a site without a warning, a network or a page that leads nowhere."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import oba
from oba import registry
from oba.cli import app
from oba.schema import study_schema

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The built site: a warning, such as a link to nothing or a page in no table of contents, is an error."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    # Whatever asks for a network asks a proxy that does not exist.
    offline = os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [*build, str(ROOT / "docs"), str(folder / "html")], env=offline, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return folder / "html"


def words(page: Path) -> str:
    """Return the text of a built page."""
    lines = re.sub(r"</(?:dt|dd|p|li|td|th|h\d|pre)>", "\n", page.read_text())
    return html.unescape(re.sub(r"<[^>]+>", "", lines))


def test_all_pages_are_there_and_load_nothing_from_elsewhere(site):
    assert len(PAGES) > 15
    for name in PAGES:
        text = (site / f"{name}.html").read_text()
        loaded = re.findall(r"<(?:script|img|link|source)\b[^>]*?(?:src|href)=\"([^\"]+)\"", text)
        assert loaded
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], name
        assert "<!-- here:" not in text, name


def test_every_command_is_explained(site):
    text = words(site / "commands.html")
    for name, command in get_command(app).commands.items():
        assert command.hidden or f"oba {name}" in text, name


def test_every_key_of_a_study_is_explained(site):
    text = words(site / "configuration.html")
    schema = study_schema()
    keys = {key for section in [schema, *schema["$defs"].values()] for key in section.get("properties", {})}
    assert not [key for key in keys if not re.search(rf"\b{key}\b", text)]
    for kind in ("criterion", "allocation", "weight allocation", "update"):
        assert not [name for name in registry.names(kind) if name not in text]


def test_a_key_says_what_its_change_reruns(site, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/_ext"))
    from study_keys import seen_by

    assert seen_by("finetune", "epochs") == ["finetune"]
    assert seen_by("dense", "from") == ["dense", "scratch"]
    assert seen_by("methods", "rounds") == ["prune"]
    assert seen_by("methods", "finetune") == ["finetune"]
    assert seen_by("threads", "evaluate") == ["evaluate"]
    assert "prune" not in seen_by("runtime", "precision")
    assert "prune" in seen_by("runtime", "device")
    assert seen_by("tracking", "uri") == seen_by("keep") == []


def test_the_public_face_is_documented(site):
    text = words(site / "api.html")
    for name in oba.__all__:
        assert name.startswith("__") or f"oba.{name}(" in text, name


def test_formulas_are_drawn(site, monkeypatch):
    text = (site / "method.html").read_text()
    assert text.count('<svg class="formula"') >= 10
    assert "$$" not in words(site / "method.html")
    monkeypatch.syspath_prepend(str(ROOT / "docs/_ext"))
    from formulas import svg

    assert 'aria-label="a &lt; b"' in svg("a < b")
    with pytest.raises(ValueError, match="unknown"):
        svg(r"\unknown{x}")
