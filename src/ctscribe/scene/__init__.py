"""Tokens and masks -> regions, slots, graph and detected findings."""
