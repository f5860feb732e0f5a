"""What programs are compiled for: its rates, and the bytes that its compiler holds."""
