"""Plans and validations for people: text tables."""
