"""Steps that several tasks share: each is given the session, or what it needs of it, and never a task."""
