"""Tables of test cases: one row buys all the tests of its kind."""
