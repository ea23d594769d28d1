"""Models of cancellation: their families, how they are judged and when one replaces another."""
