"""What training, tracking and starting cost, measured side by side with what somebody would write without us."""
