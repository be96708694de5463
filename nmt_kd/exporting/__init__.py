"""Export a student as CTranslate2 models that are checked against fairseq and measured."""
