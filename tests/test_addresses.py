"""What of an address may be shown, and which ones hold a password."""

from __future__ import annotations

import pytest

from oba.addresses import has_credentials, is_well_formed, redacted


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:s3cret@host:5000/x", "http://host:5000/x"),
        ("http://s3cret@host", "http://host"),
        ("http://host?password=s3cret", "http://host?password=***"),
        ("http://host/x?a=1&token=s3cret", "http://host/x?a=***&token=***"),
        (
            "postgresql+psycopg2://me:s3cret@host:1/db?sslmode=require",
            "postgresql+psycopg2://host:1/db?sslmode=require",
        ),
        ("postgresql://me@host/db", "postgresql://host/db"),
        ("http://me:s3#cret@host:5000", "http://…"),
        ("http://me:s3/cret@host:5000", "http://…"),
        ("http://me:s3?cret@host:5000", "http://…"),
        ("http://me:s3@cret@host:5000", "http://…"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("sqlite:////disk/what@is#this.db", "sqlite:////disk/what@is#this.db"),
        ("sqlite:///file:/what%3F/mlflow.db?uri=true", "sqlite:///file:/what%3F/mlflow.db?uri=true"),
    ],
)
def test_addresses_are_shown_without_what_may_be_secret(uri, shown):
    assert redacted(uri, uri) == shown
    told = redacted(f"no answer from {uri} (retried)", uri)
    assert told == f"no answer from {shown} (retried)"
    assert "cret" not in told


@pytest.mark.parametrize(
    "text",
    [
        "for user me with s3cret%21 of x",
        "meant is s3cret!",
        "API request to http://me:s3cret%21@host:5000/api/2.0 failed",
        "another: ftp://you:s3cret%21@there",
    ],
)
def test_passwords_are_found_in_any_text(text):
    assert "cret" not in redacted(text, "http://me:s3cret%21@host:5000")


def test_short_password_does_not_eat_words():
    assert redacted("pw of pwd: pw", "http://me:pw@host") == "*** of pwd: ***"


def test_passwords_of_the_environment_are_found(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    assert redacted("Basic s3cret, Bearer t0ken") == "Basic ***, Bearer ***"


def test_options_in_any_text_lose_secrets_alone():
    assert redacted("url: /api?max_results=1&api_key=abc") == "url: /api?max_results=1&api_key=***"


@pytest.mark.parametrize(
    ("uri", "holds"),
    [
        ("http://host:5000", False),
        ("postgresql://me@host/db?sslmode=require", False),
        ("sqlite:////what@is/this:that.db", False),
        ("databricks", False),
        ("./mlruns", False),
        ("http://me:pw@host", True),
        ("http://token@host", True),
        ("postgresql://me:pw@host/db", True),
        ("postgresql://host/db?user=me&password=pw", True),
        ("http://me:p#w@host", True),
        ("http://me:p/w@host", True),
        ("http://host?x=1#&password=pw", True),
    ],
)
def test_credentials_are_noticed(uri, holds):
    assert has_credentials(uri) is holds


@pytest.mark.parametrize("uri", ["http://host:1", "http://host:65535/a/b?c=d", "https://u:p%40@h", "http://[::1]"])
def test_well_formed(uri):
    assert is_well_formed(uri)


@pytest.mark.parametrize(
    "uri", ["host", "http:/host", "http://h:0", "http://h:65536", "http://h:1x", "http://a b", "h://[x"]
)
def test_malformed(uri):
    assert not is_well_formed(uri)
