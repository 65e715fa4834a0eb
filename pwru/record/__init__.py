"""What an event is, apart from any kernel."""
