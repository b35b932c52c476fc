"""BOP's files are in millimetres, everything inside is in metres."""

MM_TO_M = 1e-3
M_TO_MM = 1e3
