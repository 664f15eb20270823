"""Pure routing decisions: what runs where, when, or not at all.

Rules of this folder: standard library only (plus numba's `register_jitable` where numba is installed); no clock, no random
generator, no I/O. Time is an argument (int microseconds), randomness is an argument (`u` in [0, 1)). The router awaits the
commands, the simulator schedules them, and neither decides anything itself.
"""
