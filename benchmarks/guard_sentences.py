"""Does the guard judge sentences in free wording, that no program made?

    python benchmarks/guard_sentences.py

Every sentence of `guard_sentences.yaml` is put to the guard, for an impression of one synthetic study. A wrong one is
caught when the guard objects to it; any objection to a faithful one is a false alarm. The sentences were written for
this purpose by the guard's author: those under ``seen`` while it was written, those under ``unseen`` afterwards. When
the latter were read for the first time, 38 of 42 wrong ones were caught and 1 of 27 faithful ones objected to; the
four misses were mended then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guard
import yaml

from ctscribe.impression import Context, write
from ctscribe.impression.guard import problems
from ctscribe.impression.result import Statement
from ctscribe.report import Finding

SENTENCES = Path(__file__).with_name("guard_sentences.yaml")
STUDY = (
    Finding("lung_nodule", "present", ("right_upper_lobe",), (9, 7), (("density", "solid"), ("margin", "spiculated"))),
    Finding("lymphadenopathy", "present", ("mediastinum",), (18, 14)),
    Finding("pleural_effusion", "present", ("left_pleura",), (), (("severity", "small"),)),
    Finding("consolidation", "uncertain", ("left_lower_lobe",)),
    Finding(
        "emphysema",
        "present",
        ("right_upper_lobe", "left_upper_lobe"),
        (),
        (("pattern", "centrilobular"), ("severity", "mild")),
    ),
    Finding("aortic_aneurysm", "present", ("aorta",), (46,)),
    Finding("pneumothorax", "absent"),
)
PATIENT = Context(age=61, smoker=True, cancer=False, immunosuppressed=False, screening=False)


def main() -> None:
    for group, table in yaml.safe_load(SENTENCES.read_text(encoding="utf-8")).items():
        for wanted in ("faithful", "wrong"):
            judged = [
                (text, objections)
                for name, listed in table.items()
                if name.endswith(wanted)
                for text, objections in judge(listed, name.split()[0])
            ]
            objected = [text for text, objections in judged if objections]
            print(f"{group}: {len(objected)} of {len(judged)} {wanted} sentences objected to")
            for text, objections in judged:
                if bool(objections) != (wanted == "wrong"):
                    print(f"  {text} {[(p.kind, p.message) for p in objections]}")


def judge(listed: list[list[Any]], language: Any) -> Iterator[tuple[str, list[Any]]]:
    """Each sentence and the objections to it alone."""
    ruled = write(STUDY, language, context=PATIENT)
    known = guard.known_of(STUDY, ruled, language)
    for role, text, findings in listed:
        asked = Statement(text, role, tuple(findings))
        yield text, [p for p in problems([asked], known, language) if p.statement is not None]


if __name__ == "__main__":
    main()
