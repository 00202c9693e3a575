"""Whether the engine in use plays the published task: one row of checks a task."""
