"""Ratios against bare baselines, on this machine, in one run: `make bench`."""
