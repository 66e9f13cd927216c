"""The page in a real browser: keys rate, answers stay, and the saved files are read back. Needs Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ctscribe.evaluation.reader_study import read_answers
from ctscribe.evaluation.reader_study.questions import scales
from readers import reading_set

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")

# Answers every item with the keyboard, as a reader would, then shows what would be saved.
READER = """
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
at("guide").close();
go(set.items.length - 1);
const closed = { here, banner: at("banner").textContent };
for (let n = 0; n < set.items.length; n++) {
  if (item().kind === "scan") document.querySelector(".rest").click();
  else { for (const key of ["4", "2", "0", "5"]) press(key); }
  if (item().kind !== "scan") {
    const more = document.querySelectorAll(".step.significant button")[3];
    more.click(); more.click();
    at("comment").value = '右肺, "left"'; at("comment").oninput();
  }
  press("ArrowRight");
}
const kept = JSON.parse(localStorage.getItem(STORE)).answers;
const shown = { closed, done: at("counted").textContent, banner: at("banner").hidden, kept };
const saved = { json: asJson(), answers: asCsv("answers"), findings: asCsv("findings"), shown };
document.body.replaceChildren(make("pre", { id: "saved", textContent: JSON.stringify(saved) }));
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict:
    if not BROWSER:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("page")
    page = MADE.files()["readers/reader-1/reading.html"].decode()
    at = page.rindex("</script>")
    (folder / "page.html").write_text(page[:at] + READER + page[at:], encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", (folder / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="saved">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    return json.loads(html.unescape(found[1]))


MADE = reading_set(count=4, readers=1, repeats=1, findings=True)


def test_keys_rate_and_answers_stay(saved: dict) -> None:
    count = len(MADE.key.items) + len(MADE.key.scans)
    assert saved["shown"]["done"] == f"{count} of {count} done"
    assert saved["shown"]["banner"] is False
    assert saved["shown"]["closed"]["here"] == 0  # no report before every scan was read
    assert saved["shown"]["closed"]["banner"].startswith("Please read every scan first")
    assert len(saved["shown"]["kept"]) == count


@pytest.mark.parametrize("form", ["json", "csv"])
def test_saved_files_are_read_back(saved: dict, form: str, tmp_path: Path) -> None:
    if form == "json":
        (tmp_path / "answers.json").write_text(saved["json"], encoding="utf-8")
    else:
        (tmp_path / "answers.csv").write_text(saved["answers"], encoding="utf-8", newline="")
        (tmp_path / "findings.csv").write_text(saved["findings"], encoding="utf-8", newline="")
    found = read_answers([tmp_path], MADE.key)
    assert [reading.item for reading in found.readings] == list(MADE.key.items)
    assert len(found.scans) == len(MADE.key.scans)
    first, second, _, last = scales()
    for reading in found.readings:
        assert reading.scores == {first: 4, second: 2, last: 5}
        assert reading.errors["missed_finding_significant"] == sum(reading.errors.values()) == 2
        assert reading.comment == '右肺, "left"'
    assert all(set(scan.marks.values()) == {"absent"} for scan in found.scans)
