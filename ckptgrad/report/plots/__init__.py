"""Pictures with matplotlib: timelines, frontiers, schedules and stage costs."""
