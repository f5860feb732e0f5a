"""How each type of result is shown: a file for each, found by `report.renderer`."""
