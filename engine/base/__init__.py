"""What everything stands on: errors, clock, units, settings, log, metrics. Imports nothing of ours."""
