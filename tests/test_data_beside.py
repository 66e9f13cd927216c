"""Earlier scans, histories and laboratory values on their way from a manifest to a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.test_data_manifest import study, write_csv

from ctscribe import ontology
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Sample
from ctscribe.data.cache import StudyCache
from ctscribe.data.dataset import ManifestDataset
from ctscribe.data.deidentify.copy import Copier, _row, _without_lost_priors
from ctscribe.data.manifest import ManifestRow, read_manifest
from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.data.shards import read_shard, write_shards
from ctscribe.data.store import BESIDE, StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.errors import UsageError
from ctscribe.report import Finding

LAYOUT = StoreLayout.current((16, 32, 32), (8, 4, 4), None)


def sample(name: str, **changes: object) -> Sample:
    rng, regions = np.random.default_rng(sum(map(ord, name))), len(ontology.model_regions())
    plain = Sample(
        name,
        rng.integers(-1000, 1000, LAYOUT.shape).astype(np.int16),
        (20.0, 11.0, 11.0),
        rng.integers(0, 256, (regions, *LAYOUT.region_grid)).astype(np.uint8),
        rng.random(regions) < 0.5,
        (Finding("lung_nodule", size_mm=(8.0,)),),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- manifest
def pair(folder: Path, **values: str) -> list[dict[str, str]]:
    """Two scans of one patient; `values` belong to the later one."""
    return [study(folder, 1, date="2020-01-01"), study(folder, 2, patient="P1", prior="S1", **values)]


def written(folder: Path, rows: list[dict[str, str]]) -> Path:
    return write_csv(folder, rows, columns=list(dict.fromkeys(name for row in rows for name in row)))


def test_a_table_and_json_lines_know_the_same_beside_the_scans(tmp_path: Path) -> None:
    rows = pair(tmp_path, date="2020-03-31", history="发热4天。", **{"lab:CRP": "80", "lab:白细胞": "12.5"})
    table = read_manifest(written(tmp_path, rows)).rows
    lines = [
        {name: value for name, value in rows[1].items() if not name.startswith("lab:")}
        | {"labs": {"crp": 80, "wbc": 12.5}}
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (rows[0], *lines)), encoding="utf-8")
    for one, other in zip(table, read_manifest(path).rows, strict=True):
        assert replace(one, line=0) == replace(other, line=0)
    assert table[1].history == "发热4天。"
    assert table[1].labs == (("crp", 80.0), ("leukocytes", 12.5))
    assert (table[0].prior_days, table[1].prior_days) == (None, 90.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lab:crp": "high"}, "column 'lab:crp': laboratory value crp, expected a number above 0, in mg/L, got 'high'"),
        ({"lab:crp": "<5"}, "expected a number above 0, in mg/L, got '<5'"),
        ({"lab:crp": "-3"}, "expected a number above 0, in mg/L"),
        ({"lab:ferritin": "3"}, "column 'lab:ferritin': unknown laboratory value 'ferritin', expected crp (mg/L)"),
        ({"lab:crp": "3", "lab:C-reactive protein": "4"}, "crp is given twice"),
        ({"labs": "[1]"}, "column 'labs', expected a JSON object"),
        ({"labs": "{crp"}, "column 'labs', expected a JSON object"),
        ({"labs": '{"crp": "80"}'}, "column 'labs': laboratory value crp, expected a number above 0"),
        ({"date": "31.3.2020"}, "column 'date', expected a day as YYYY-MM-DD, got 31.3.2020"),
        ({"date": "2019-12-31"}, "column 'prior' names a study that was not made earlier"),
        ({"date": "2020-01-01"}, "column 'prior' names a study that was not made earlier"),
        ({"prior_days": "-5"}, "column 'prior_days', expected a number of days above 0, got -5"),
        ({"prior_days": "soon"}, "column 'prior_days', expected a number of days above 0, got soon"),
        ({"date": "2020-03-31", "prior_days": "10"}, "column 'prior_days', expected 90, as the dates say, got 10"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(values: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_manifest(written(tmp_path, pair(tmp_path, **values)))
    assert words in str(caught.value)
    assert "line 3" in str(caught.value)


def test_a_prior_is_an_earlier_scan(tmp_path: Path) -> None:
    rows = [study(tmp_path, n, patient="P", prior=f"S{(n + 1) % 3}") for n in range(3)]
    with pytest.raises(UsageError, match="line 2 and 3 and 4: column 'prior' goes round in a circle"):
        read_manifest(written(tmp_path, rows))
    with pytest.raises(UsageError, match="column 'prior_days', expected column 'prior'"):
        read_manifest(written(tmp_path, [study(tmp_path, 1, prior_days="9")]))


def test_a_clean_copy_keeps_what_is_known_and_no_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pair(tmp_path, date="2020-03-31", history="Fever, seen by Dr. Smith on 12.03.2020.", **{"lab:crp": "80"})
    row = read_manifest(written(tmp_path, rows)).rows[1]
    monkeypatch.setattr(Copier, "files", lambda self, path, patient=None: iter([("a.nii.gz", ())]))
    copier = Copier(tmp_path / "out", Pseudonyms(b"0" * 16))
    plain = _row(row, copier)
    assert plain is not None
    assert (plain["labs"], plain["prior_days"]) == ({"crp": 80.0}, 90.0)
    assert "Fever" in str(plain["history"])
    assert "2020" not in json.dumps(plain)


def test_a_clean_copy_names_no_prior_that_could_not_be_copied() -> None:
    rows: list[dict[str, object]] = [{"study": "b", "prior": "a", "prior_days": 9.0}, {"study": "c", "prior": "b"}]
    assert list(_without_lost_priors(rows)) == [{"study": "b"}, {"study": "c", "prior": "b"}]


# ------------------------------------------------------------------------------------ store, shards
def filled(root: Path) -> StudyStore:
    late = sample("late", history="Fever.", labs=(("crp", 80.0),), prior_days=90.0)
    with StudyStoreWriter(root, LAYOUT, capacity=4) as writer:
        writer.append(late, prior="early", split="train")
        writer.append(sample("early"), split="train")
        writer.append(sample("lost", prior_days=3.0), prior="refused", split="train")
    return StudyStore(root)


def same(a: Sample | None, b: Sample | None) -> bool:
    assert a is not None
    assert b is not None
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("hu", "occupancy", "present", "findings"))


def test_a_store_holds_an_earlier_scan_once_and_gives_it_with_its_study(tmp_path: Path) -> None:
    store = filled(tmp_path)
    early, late, lost = store
    assert (early.prior, early.history, early.labs) == (None, "", ())
    assert (late.history, late.labs, late.prior_days) == ("Fever.", (("crp", 80.0),), 90.0)
    assert same(late.prior, early)
    assert (lost.prior, lost.prior_days) == (None, None)
    only = StudyStore(tmp_path, ["late"])
    assert len(only) == 1
    assert same(only[0].prior, early)
    silent = StudyStore(tmp_path, beside=())[1]
    assert (silent.prior, silent.prior_days, silent.history, silent.labs) == (None, None, "", ())


def test_a_writer_names_the_prior_of_a_sample(tmp_path: Path) -> None:
    with StudyStoreWriter(tmp_path, LAYOUT, capacity=2) as writer:
        writer.append(sample("a"))
        writer.append(sample("b", prior=sample("a"), prior_days=1.0))
    assert same(StudyStore(tmp_path)[1].prior, sample("a"))


def test_shards_carry_an_earlier_scan_beside_its_study(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    names = write_shards(store, tmp_path / "shards")
    read = {s.id: s for name in names["train"] for s in read_shard(tmp_path / "shards" / name)}
    for kept in store:
        got = read[kept.id]
        assert (got.history, got.labs) == (kept.history, kept.labs)
        assert (got.prior is None) == (kept.prior is None)
    assert same(read["late"].prior, store[0])
    assert read["late"].prior_days == 90.0


def test_a_manifest_prepares_an_earlier_scan_once(tmp_path: Path) -> None:
    rows = read_manifest(written(tmp_path, pair(tmp_path, date="2020-03-31", history="Fever."))).rows
    made: list[str] = []

    def prepare(row: ManifestRow) -> Sample:
        made.append(row.study)
        return sample(row.study)

    dataset = ManifestDataset(rows, prepare, cache=StudyCache(tmp_path / "cache", {}))
    late = dataset[1]
    assert same(late.prior, dataset[0])
    assert (late.prior_days, late.history) == (90.0, "Fever.")
    assert sorted(made) == ["S1", "S2"]
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    assert ManifestDataset(rows, prepare, beside=())[1].prior is None
    with pytest.raises(UsageError, match="line 3: its prior is not among the rows"):
        ManifestDataset(rows[1:], prepare)


def test_an_earlier_scan_is_augmented_on_its_own() -> None:
    late = sample("late", prior=sample("early"))
    alone = Augment()(replace(late, prior=None), np.random.default_rng(3))
    both = Augment()(late, np.random.default_rng(3))
    assert same(alone, both)
    assert both.prior is not None
    assert not np.array_equal(both.prior.hu, sample("early").hu)


def test_every_word_for_what_is_beside_a_scan_is_one_a_model_knows() -> None:
    from ctscribe.beside import InputsConfig

    everything: Mapping[str, bool] = dict.fromkeys(BESIDE, True)
    assert InputsConfig(**everything).names == BESIDE  # type: ignore[arg-type]
