"""What the scores of the open bookings mean for each arrival date ahead."""
