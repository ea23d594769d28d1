"""The only code that touches the outside: Spark and Delta, MLflow, the machine."""
