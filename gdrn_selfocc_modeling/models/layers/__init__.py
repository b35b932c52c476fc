"""Parts that heads are made of."""
