"""The figures that configurations state, as `studies/verify.py` reads them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def verify(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "studies")
    yield __import__("verify")
    for name in ("verify", "commands"):
        sys.modules.pop(name)


def test_expected_figures_are_read(verify, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "seed: 0\n\n# Expected:\n#   kid: 0.07 ± 0.003\n#   machine: a, b\n"
    )
    assert verify.read_expected(path) == {
        "kid": (0.07, 0.003),
        "machine": ("a, b", None),
    }
    stated = verify.read_expected(ROOT / "configs" / "demo.yaml")
    assert stated.keys() == {"kid", "loss", "minutes", "machine"}
    assert 0 < stated["kid"][1] < stated["kid"][0] < 1
    path.write_text("seed: 0\n")
    with pytest.raises(SystemExit, match="no comment '# Expected'"):
        verify.read_expected(path)


def test_verdict_allows_for_chance_and_better_figures(verify, capsys):
    assert verify.verdict("KID", 0.06, 0.07, 0.01)
    assert verify.verdict("KID", 0.079, 0.07, 0.01)
    assert not verify.verdict("KID", 0.081, 0.07, 0.01)
    assert "NOT REACHED" in capsys.readouterr().out
