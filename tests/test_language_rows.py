"""Products of a few rows: the same numbers, laid out for as long as a batch is written."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ctscribe.language import rows
from ctscribe.language.rows import FEW, few_rows


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 80), nn.GELU(), nn.Linear(80, 16, bias=False)).eval()


@pytest.mark.parametrize("shape", [(2, 48), (8, 1, 48), (4, 8, 48), (1, 48), (FEW + 1, 48)])
def test_rows_are_multiplied_as_ever(shape: tuple[int, ...]) -> None:
    maps, x = network(), torch.randn(*shape)
    with torch.no_grad():
        wanted = maps(x)
        with few_rows(maps, 8) as count:
            assert count == 2
            got = maps(x)
            by_columns = maps(x.flip(-1).contiguous().flip(-1))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(by_columns, wanted, atol=1e-5, rtol=1e-5)


def test_few_rows_use_the_laid_out_weight_and_others_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = network()
    with torch.no_grad(), few_rows(maps, 8):
        for linear in (maps[0], maps[2]):
            linear.weight.zero_()  # what was laid out stays as it was
        assert maps(torch.ones(8, 48)).abs().sum() > 0
        assert maps(torch.ones(1, 48)).abs().sum() == 0
        assert maps(torch.ones(FEW + 1, 48)).abs().sum() == 0
    with torch.no_grad():
        assert maps(torch.ones(8, 48)).abs().sum() == 0


def test_nothing_is_laid_out_where_it_would_not_help() -> None:
    maps = network()
    with few_rows(maps, 8) as learning:
        assert learning == 0
    with torch.no_grad():
        for network_, count in ((maps, 1), (maps, FEW + 1), (network().bfloat16(), 8)):
            with few_rows(network_, count) as helped:
                assert helped == 0


def test_an_error_leaves_the_network_as_it_was() -> None:
    maps = network()
    with pytest.raises(KeyError), torch.no_grad(), few_rows(maps, 8):
        raise KeyError
    assert not any("forward" in module.__dict__ for module in maps.modules())


def test_without_onednn_everything_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows.torch.backends.mkldnn, "is_available", lambda: False)
    with torch.no_grad(), few_rows(network(), 8) as helped:
        assert helped == 0
