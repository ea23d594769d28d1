"""What a booking is: its columns, its features, what makes it fit for use, and synthetic ones."""
