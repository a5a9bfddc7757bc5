"""The mathematics: schedules, the process and its reversal, noise levels, walks, sampling. No networks, no domain."""
