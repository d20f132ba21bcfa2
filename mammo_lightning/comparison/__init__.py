"""Runs side by side: every figure is a function of what each run predicted; nothing is trained or read again."""
