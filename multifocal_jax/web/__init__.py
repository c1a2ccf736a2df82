"""The page of `multifocal web`: who is on it, what it computes, what it looks like."""
