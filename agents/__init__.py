"""The stream agents, one module per stage in flow order: collector, calculator, alerts."""
