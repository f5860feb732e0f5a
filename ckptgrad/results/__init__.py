"""What planning, timing and validating return, as plain data. How it is shown is the business of `ckptgrad.report`."""
