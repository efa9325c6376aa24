"""What the system decides, as pure functions over values: no I/O, no clock, no chance of its own."""
