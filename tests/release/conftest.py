"""Fixtures of the release tests: a chain of finished folders, and a signed release."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def load_sibling(name):
    """Import a module that lies beside the tests (importlib mode has no package for them)."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


for name in ("tiny_release", "hub_gate", "hub_standin"):
    load_sibling(name)
from tiny_release import (  # noqa: E402
    finish,
    finish_encoder,
    make_card,
    make_release,
    mindshift,
    mindshift_key,
    save_encoder,
    write_evidence,
)


@pytest.fixture(scope="session")
def encoder_template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "model"
    save_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def base_template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "base"
    save_encoder(folder, seed=1)
    return folder


@pytest.fixture
def chain(tmp_path, encoder_template, base_template):
    """Corpus, base, encoder adapted from it and passing audits, as the stages before leave them."""
    data = tmp_path / "corpus"
    data.mkdir()
    (data / "report.json").write_text('{"kept": 3}')
    finish(data, "corpus", {})
    shutil.copytree(base_template, tmp_path / "base")
    model = tmp_path / "model"
    shutil.copytree(encoder_template, model)
    (model / "evaluation.json").write_text(json.dumps({"before": {"perplexity": 9.5}, "after": {"perplexity": 5.25}}))
    finish_encoder(tmp_path)
    write_evidence(tmp_path / "audits", model, data)
    return tmp_path


@pytest.fixture
def signed(chain, capsys):
    """A signed release: chain/built, with its key pair under chain/keys."""
    assert mindshift_key(chain) == 0
    assert make_card(chain, public_key=str(chain / "keys" / "key.pem.pub")) == 0
    assert make_release(chain) == 0
    assert (
        mindshift("release", "sign", "--release_dir", chain / "built", "--private_key", chain / "keys" / "key.pem") == 0
    )
    capsys.readouterr()
    return chain
