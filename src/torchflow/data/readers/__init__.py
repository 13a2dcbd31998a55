"""Readers of files and tables: one module for each kind."""

from __future__ import annotations
