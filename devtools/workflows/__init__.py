"""Run the workflows of GitHub on this machine."""
