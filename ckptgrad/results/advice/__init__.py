"""What a plan suggests to do, in words: a file for each kind of advice, found by `advice.advice_on`."""
