"""What the adapters make of real public data: LIDC-IDRI's outlines as nodules, and real reports after scrubbing.

python benchmarks/data_sets.py                       # two minutes: the annotations of all 1,018 scans
python benchmarks/data_sets.py --reports reports.csv # CT-RATE reports, column report_text
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from pathlib import Path

from ctscribe.data.deidentify.text import scrub
from ctscribe.data.sources.lidc_database import find_database, read_scans
from ctscribe.data.sources.lidc_nodules import cluster

MEASURED = re.compile(r"\d+(?:[.,]\d+)?(?:\s*[x×]\s*\d+(?:[.,]\d+)?)*\s*(?:mm|cm|HU)\b")


def nodules() -> None:
    """How many outlines belong to one nodule, over all scans."""
    sizes: Counter[int] = Counter()
    scans = 0
    for scan in read_scans(find_database()):
        scans += 1
        sizes.update(len(group) for group in cluster(scan))
    print(f"{scans} scans, {sum(sizes.values())} nodules, {sizes[4]} drawn by four readers; outlines: {dict(sizes)}")
    print("published (doi 10.1118/1.3528204): 2669 nodules of 3 mm and more, 928 by four readers")


def scrubbing(path: Path) -> None:
    """What is taken out of real reports, and whether a measurement went with it."""
    with path.open(encoding="utf-8") as handle:
        texts = [row["report_text"] for row in csv.DictReader(handle)]
    found: Counter[str] = Counter()
    touched = 0
    for text in texts:
        cleaned = scrub(text)
        found += cleaned.found
        touched += MEASURED.findall(text) != MEASURED.findall(cleaned.text)
    print(f"{len(texts)} reports: {dict(found)} taken out, measurements changed in {touched}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=Path)
    options = parser.parse_args()
    nodules()
    if options.reports:
        scrubbing(options.reports)


if __name__ == "__main__":
    main()
