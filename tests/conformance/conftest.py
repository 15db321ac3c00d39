"""Fixtures: the hub folder, servers over it with any settings, olah, and a client home of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import catalogue as catalogue_module
from support import Olah, Server, clean_environment

SETTINGS = """\
[tokens]
"hf_reader" = ["*"]
"hf_tiny" = ["acme/gated"]
"hf_nobody" = []
"""


def pytest_addoption(parser):
    parser.addoption("--hubprint", required=True, help="path of the hubprint binary under test")


def pytest_configure(config):
    """The client reads its environment when it is imported: set it before any test module is."""
    import tempfile

    home = Path(tempfile.mkdtemp(prefix="hubprint-conformance-"))
    config.add_cleanup(lambda: __import__("shutil").rmtree(home, ignore_errors=True))
    env = clean_environment(home / "hf-home")
    os.environ.clear()
    os.environ.update(env)


@pytest.fixture(scope="session")
def binary(request) -> Path:
    path = Path(request.config.getoption("--hubprint")).resolve()
    assert path.is_file(), f"no binary at {path}"
    return path


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory) -> catalogue_module.Catalogue:
    return catalogue_module.build(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def start(binary, hub_folder, tmp_path_factory):
    """`start("page_limit=3", ...)`: a new server with these settings, ended with the session."""
    servers: list[Server] = []

    def start_server(*overrides: str) -> Server:
        place = tmp_path_factory.mktemp("server")
        settings = place / "settings.toml"
        settings.write_text(SETTINGS)
        server = Server(binary, hub_folder.folder, settings, place / "server.log", list(overrides))
        servers.append(server)
        return server

    yield start_server
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(start) -> Server:
    """The server with every setting at its default."""
    return start()


@pytest.fixture(scope="session")
def pages_of_three(start) -> Server:
    return start("page_limit=3")


@pytest.fixture(scope="session")
def start_olah(tmp_path_factory):
    proxies: list[Olah] = []

    def start_proxy(**kwargs) -> Olah:
        place = tmp_path_factory.mktemp("olah") / "run"
        proxy = Olah(place, dict(os.environ), **kwargs)
        proxies.append(proxy)
        return proxy

    yield start_proxy
    for proxy in proxies:
        proxy.stop()


@pytest.fixture(scope="session")
def olah(start_olah, server) -> Olah:
    """olah in front of the default server."""
    return start_olah(server=server)
