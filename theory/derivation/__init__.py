"""Derivation: indexed definitions, their derivatives, and the networks made of them."""
