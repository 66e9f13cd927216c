"""What does a hosted language model cost for 1,000 impressions, and how many does the rule writer make in a second?

    python benchmarks/impression_cost.py --price-in 1.25 --price-out 10 [--n 200] [--encoding cl100k_base]

Tokens are counted with `tiktoken` in the prompts that would be sent for synthetic phantoms (system text, findings,
guidelines, passages, JSON schema), and in the rule-written impression as the JSON that a model is asked for: what a
faithful answer has. Nothing is sent. The cost is arithmetic: tokens x price, once, and with `--again` of the answers
written a second time. Prices are per million tokens; the defaults are examples, not an offer. What a model thinks
before it answers is billed as output and is not in the count: `--thinking` adds so many tokens an answer.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from importlib import import_module
from statistics import mean
from typing import Any

import guard

from ctscribe.impression.station import Station
from ctscribe.impression.writers import question
from ctscribe.ontology import Language
from ctscribe.phantom import LesionPrior, generate


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens and cost of 1,000 impressions, and the rule writer's speed.")
    parser.add_argument("--n", type=int, default=200, help="phantom reports, in each language")
    parser.add_argument("--encoding", default="cl100k_base", help="of tiktoken")
    parser.add_argument("--price-in", type=float, default=1.25, help="per million tokens sent")
    parser.add_argument("--price-out", type=float, default=10.0, help="per million tokens received")
    parser.add_argument("--again", type=float, default=0.2, help="share of answers that are written a second time")
    parser.add_argument("--thinking", type=int, default=0, help="further tokens of each answer")
    options = parser.parse_args()
    count = import_module("tiktoken").get_encoding(options.encoding)  # pip install tiktoken; no part of ctscribe
    studies = [study(number) for number in range(options.n)]
    speed(studies)
    for language in ("en", "zh"):
        sent, received = zip(*(tokens(*s, language, count) for s in studies), strict=True)
        answer = mean(received) + options.thinking
        once = mean(sent) * options.price_in / 1e3 + answer * options.price_out / 1e3
        print(
            f"{language}: {mean(sent):.0f} tokens sent, {answer:.0f} received; 1,000 impressions cost {once:.2f}, "
            f"with {options.again:.0%} written again {once * (1 + options.again):.2f}"
        )


def study(number: int) -> tuple[Any, Any]:
    """Findings and context of one phantom."""
    findings = tuple(generate(number, guard.GRID, lesions=LesionPrior.crowded(3)).findings)
    return findings, guard.patient(random.Random(number))


def tokens(findings: Any, context: Any, language: Language, count: Any) -> tuple[int, int]:
    """Tokens sent and received for one study."""
    ruled = Station().write(findings, language, context=context)
    asked = question(guard.known_of(findings, ruled, language), language, context)
    sent = asked.system + asked.user + json.dumps(asked.schema)
    statements = [
        {"text": s.text, "role": s.role, "findings": s.findings, "citations": s.citations} for s in ruled.statements
    ]
    answer = json.dumps({"statements": statements}, ensure_ascii=False)
    return len(count.encode(sent)), len(count.encode(answer))


def speed(studies: list[tuple[Any, Any]]) -> None:
    """Impressions a second of processor time by rule, the guard's reading of them included."""
    for language in ("en", "zh"):
        begun = time.process_time()
        for findings, context in studies:
            Station().write(findings, language, context=context)
        rate = len(studies) / (time.process_time() - begun)
        print(f"{language}: {rate:.0f} impressions by rule a second of processor time, guard included")


if __name__ == "__main__":
    main()
