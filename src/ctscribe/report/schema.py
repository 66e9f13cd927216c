"""The JSON schema of a report, for those who read ``report.json`` in another language."""

from __future__ import annotations

from typing import Any

from ctscribe import ontology
from ctscribe.report.codec import schema_of
from ctscribe.report.document import SCHEMA_VERSION, Report


def report_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of `Report.to_json`; finding kinds and regions are enumerated from the ontology."""
    definitions: dict[str, Any] = {}
    root = schema_of(Report, definitions)
    finding = definitions["Finding"]["properties"]
    finding["kind"] = {"enum": list(ontology.findings())}
    finding["regions"]["items"] = {"enum": list(ontology.regions())}
    definitions["Report"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ctscribe report",
        **root,
        "$defs": definitions,
    }
