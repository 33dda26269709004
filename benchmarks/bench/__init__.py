"""``./fleet bench``: what the fleet does in a second, beside what the same machine does without it.

Servers of its own, durable; all shapes in alternating rounds of one run, so that a noisy machine is
noisy for all of them. What counts is the ratio of two lines of one run.
"""
