"""Pure logic: no Spark session, no registry, no argv, no clock."""
