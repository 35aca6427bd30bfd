"""Averages over a finite support: cubature over the fields of P examples."""
