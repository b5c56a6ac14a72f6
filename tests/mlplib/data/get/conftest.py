"""Every test here begins with nothing: no cache, no data, and no proxy before its own servers."""

import pytest


@pytest.fixture(autouse=True)
def local(tmp_path, monkeypatch):
    """The empty folder that ``MLPLIB_DATA`` names; the cache is next to it, and so is the working folder."""
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLPLIB_DATA", str(tmp_path / "local"))
    for name in ("NO_PROXY", "no_proxy", "npm_config_noproxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("work", "local"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("mlplib.files.__file__", str(tmp_path / "work/mlplib/files.py"))  # no clone with data
    return tmp_path / "local"
