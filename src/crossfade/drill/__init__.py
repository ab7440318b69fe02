"""Fault drills: real processes write to two real stores while things break, and journals say what must be left.

The drill trusts nothing that it judges. Writers note each write in a file before it begins and after it was
acknowledged; the verdict reads those files and the rows, and nothing that crossfade says about itself.
"""
