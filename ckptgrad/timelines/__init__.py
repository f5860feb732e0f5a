"""What is held over the course of a gradient: as predicted by the plan, and as meters observed it."""
