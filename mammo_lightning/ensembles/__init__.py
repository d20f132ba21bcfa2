"""Runs combined: who may be a member, how they are weighed, and the networks behind them."""
