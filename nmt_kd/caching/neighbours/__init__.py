"""Predict a token from the tokens at the nearest decoder states of a training set (kNN-KD, Yang et al., 2022)."""
