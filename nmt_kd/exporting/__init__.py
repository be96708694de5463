"""Exporting a student as CTranslate2 models, checked against fairseq and measured."""
