"""Evaluate trained models: scores, agreement with a teacher, and reports."""
