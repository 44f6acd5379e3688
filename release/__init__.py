"""Folders and evidence to audits, card, signature and a gated repository; or a refusal with its reasons."""
