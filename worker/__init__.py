"""What happens to jobs over time: queue, worker thread, downloads, webhooks, retention."""
