"""What happens to jobs over time: the queue and its thread, downloads, webhooks, retention."""
