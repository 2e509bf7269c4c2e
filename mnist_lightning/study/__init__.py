"""Many runs: sweeps, leaderboard, records, analysis, report, the published figures."""
